"""The web worker's end of the queue.

In: requests, each with its caller. Out: batches of events, or a ServiceError.
It never knows WSGI, keys, a dialect or asyncio. Nothing starts at import, and sockets, threads and queues are looked up
in their modules when they are used, so that the same code runs in gevent's greenlets and in threads.
"""
