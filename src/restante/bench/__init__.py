"""The benchmark behind `restante bench`: standard workloads, with peers side by side.

It drives its own server from outside, as a client would, and imports nothing else of the program.
Start reading at `runner.run`.
"""
