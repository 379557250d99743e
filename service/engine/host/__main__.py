"""Run the engine host: `python -m service.engine.host`.

It serves the control socket that `VLLM_WSGI_ENGINE_SOCKET` names. The workers' data sockets stand in the same
directory, so its permissions decide who may connect.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

from ...config import Settings
from ...errors import ServiceError, SettingsError
from ..parent_death import die_with_parent
from .host import Host


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent", type=int, help="end when this process ends (the one that started the host)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine host: %(message)s", datefmt="%H:%M:%S")
    if arguments.parent:
        die_with_parent(signal.SIGTERM, arguments.parent)
    try:
        settings = Settings.from_env()
        if not settings.engine_socket:
            raise SettingsError("VLLM_WSGI_ENGINE_SOCKET must name the socket to listen on")
        host = Host(settings, bool(arguments.parent))
    except SettingsError as error:
        sys.exit(f"engine host: {error.message}")
    os.umask(0o007)
    try:
        asyncio.run(host.run())
    except ServiceError as error:
        sys.exit(f"engine host: {error.message}")
    finally:
        if arguments.parent:
            # The parent may have ended already.
            host.remove_directory()


if __name__ == "__main__":
    main()
