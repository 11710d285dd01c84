"""What is shipped for tests: a clock to turn by hand, suites for adapters, and the checker of recorded histories."""
