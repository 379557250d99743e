"""Both ends of connections between web and engine workers: `python -m bench.scale.peers END PORT NUMBER`.

Each web worker has a connection to each engine worker that it has sent a request to. Over TCP a pulse comes on it every
two seconds. These programs hold NUMBER of them and do nothing else.
"""

from __future__ import annotations

import sys


def listen_for_web_workers(port: int) -> None:
    import asyncio

    from service.engine.listener import listen
    from service.transport.address import TCP, Address

    async def serve() -> None:
        await listen(Address(TCP, "127.0.0.1", port, port), {})
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


def connect_to_engine_workers(port: int, number: int) -> None:
    """As a web worker under gevent does."""
    from gevent import monkey

    monkey.patch_all()
    import time

    from service.engine_client.connections import Connection
    from service.transport.address import TCP, Address

    print("ready", flush=True)
    sys.stdin.readline()
    connections = [Connection(Address(TCP, "127.0.0.1", port, port), 60.0) for _ in range(number)]
    print(f"connected {len(connections)}", flush=True)
    while True:
        time.sleep(3600)


def main() -> None:
    end, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if end == "engine":
        listen_for_web_workers(port)
    else:
        connect_to_engine_workers(port, number)


if __name__ == "__main__":
    main()
