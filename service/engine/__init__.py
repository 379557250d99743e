"""The engine's processes: a host for each machine and a worker for each model.

In: commands from web workers. Out: events.
They run asyncio and never know Flask, gevent or a dialect.
"""
