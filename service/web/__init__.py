"""The path of a request through Flask: access rules, body, dialect, engine, framing.

In: a WSGI request. Out: a Flask response, streamed or whole.
It never knows vLLM, asyncio or gunicorn.
"""
