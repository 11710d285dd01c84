"""``restante doctor``: what is wrong with a server's surroundings, and what to do about it.

One check is one function that looks at one thing and returns a ``Finding``, or None where there is nothing to look at.
Adding a check is adding a function to the ``CHECKS`` of the module of its subject.
"""
