"""The queue's bytes on their way: addresses, TLS, and connections that notice when the other machine vanishes.

In: addresses and certificates. Out: sockets. It never knows a message of the queue, asyncio or gevent, so that both
ends may import it; sockets and threads are looked up in their modules when they are used.
"""
