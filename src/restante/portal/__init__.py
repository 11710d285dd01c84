"""The client's own page: what its people see of their queues, below ``/portal`` of the public listener.

It stands on what the operators' page stands on (``desk``), with visitors, a cookie and a secret of its own. Whatever is
not the client's is answered as what is not there.
"""
