"""Stores, each one file or one folder, none importing another. ``restante.testing`` finds them here by itself."""
