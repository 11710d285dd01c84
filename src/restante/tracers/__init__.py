"""Who makes traces of what the engine tells: one module for each library."""
