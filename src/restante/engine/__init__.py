"""The engine: it talks to ports only, and decides nothing that ``lifecycle.py`` decides."""
