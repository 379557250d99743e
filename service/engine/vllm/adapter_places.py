"""Share the places for LoRA adapters between callers: an engine computes only so many adapters side by side.

In: the caller and the adapter of each request that begins. Out: a wait while the caller has no place for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AdapterPlaces:
    """The adapters that each caller's requests use now. vLLM computes `at_once` of them side by side.

    A caller uses all but one of these places, so that an adapter of another caller waits for nobody's long answer.
    Where nobody has a key there is one caller, with an empty name, which uses all.
    """

    def __init__(self, at_once: int) -> None:
        self._most = max(1, at_once - 1)
        # By caller: how many of its requests use each adapter.
        self._used: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    @asynccontextmanager
    async def place(self, caller: str, adapter: str) -> AsyncIterator[None]:
        """Wait until the caller has a place for the adapter, and hold it. Nothing is held without an adapter."""
        if not adapter:
            yield
            return
        while self._is_full(caller, adapter):
            freed = asyncio.get_running_loop().create_future()
            self._waiting[caller].append(freed)
            await freed
        used = self._used[caller]
        used[adapter] += 1
        try:
            yield
        finally:
            used[adapter] -= 1
            if not used[adapter]:
                del used[adapter]
                self._free(caller)

    def _is_full(self, caller: str, adapter: str) -> bool:
        if not caller or caller not in self._used:
            return False
        used = self._used[caller]
        return adapter not in used and len(used) >= self._most

    def _free(self, caller: str) -> None:
        """Wake all that wait: several may wait for the same adapter."""
        if not self._used[caller]:
            del self._used[caller]
        for freed in self._waiting.pop(caller, []):
            if not freed.done():
                freed.set_result(None)
