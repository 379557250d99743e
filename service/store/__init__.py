"""The directory VLLM_WSGI_STORE: blobs, manifests, stored responses.

In: names and bytes. Out: files, whole or not at all.
It never knows what a model means, asyncio or a socket.
"""
