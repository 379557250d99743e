"""The command `vllm-wsgi` in a checkout: `python -m service`. No process is started through this module."""

from __future__ import annotations

from .cli.command import main

if __name__ == "__main__":
    main()
