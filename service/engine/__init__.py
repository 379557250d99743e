"""The engine's processes: the host, which starts and watches, and the workers, one model each. No Flask, no gevent."""
