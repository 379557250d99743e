"""The web worker's end of the queue.

In: requests. Out: batches of events, or an error.
It never knows WSGI, keys, a dialect or asyncio.
"""
