"""The routes, one module a dialect; each reads as a list of verbs.

In: a request whose access has been checked. Out: a response.
They never know the bytes of a stream, which `framing` makes.
"""
