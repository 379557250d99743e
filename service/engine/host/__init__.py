"""The control plane, one process a machine: which models are loaded, and where.

In: commands on the control socket. Out: events, and engine workers as children.
It never loads a model, imports torch or sees a token.
"""
