"""Real servers for tests and trials: each a process tree of this machine, in a folder of its own, on the loopback."""
