"""vLLM behind the worker's engine interface; the only package that imports vLLM.

In: internal requests. Out: deltas.
It never knows a socket, a dialect or the host.
"""
