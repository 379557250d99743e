"""The benchmark: this server beside vLLM's own and beside a bare AsyncLLM, and the web tier alone.

`make bench` runs it; nothing here is imported by the service, and no test fails on a time that it measures.
"""
