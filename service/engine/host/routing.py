"""Choose the replica of a model to which a request goes.

In: the sequences of each replica, and the beginning of a conversation. Out: a data socket. Policy only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

# A replica that has a conversation in its prefix cache may have this many sequences more than the least busy one, or
# this part of them more. Then the conversation goes elsewhere.
MORE_SEQUENCES = 4
MORE_PART = 0.25
# The conversations whose replica is remembered. Prefix caches hold fewer.
MOST_BEGINNINGS = 10_000


class Router:
    """Sends a conversation where its last turn went, and any other request where there is the least to do."""

    def __init__(self) -> None:
        # A new worker has a new socket, so that no conversation is sent to it for the cache of the worker before it.
        self._sockets: OrderedDict[str, str] = OrderedDict()

    def choose(self, beginning: str, loads: Mapping[str, int]) -> str:
        """Return one of the sockets in `loads`, which maps them to the numbers of their sequences.

        `beginning` identifies a conversation; empty for a request that is none.
        """
        chosen = min(loads, key=lambda socket: loads[socket])
        last = self._sockets.get(beginning, "")
        if last in loads and loads[last] <= loads[chosen] + max(MORE_SEQUENCES, MORE_PART * loads[chosen]):
            chosen = last
        if beginning:
            self._sockets[beginning] = chosen
            self._sockets.move_to_end(beginning)
            if len(self._sockets) > MOST_BEGINNINGS:
                self._sockets.popitem(last=False)
        return chosen
