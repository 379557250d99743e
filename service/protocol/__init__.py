"""The messages that cross the queue between web worker, engine host and engine worker.

In and out: msgspec structs, and frames of bytes.
It never knows HTTP, a dialect or vLLM.
"""
