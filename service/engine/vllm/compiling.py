"""Lets callers take turns in having grammars compiled by vLLM's core, and ends what nobody waits for any more.

The core compiles in few threads, in the order of arrival. So a request with a costly grammar that is not known yet goes
there in a turn of its caller's, which lasts until its first output or its end. The core drops a grammar that it has not
begun when its request ends. One that it has begun it compiles to its end; the bounds of schemas keep that to seconds.

The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from vllm.v1.request import Request, RequestStatus

from .turns import Turns

# How many grammars are known to be compiled; the core keeps them by their size.
KNOWN = 512

T = TypeVar("T")


class Compiling:
    """The grammars of one engine that are being compiled."""

    def __init__(self, threads: int = 0) -> None:
        # vLLM's StructuredOutputManager has as many threads; one caller may have all of them busy.
        self._turns = Turns(1 + (threads or max(1, ((os.cpu_count() or 1) + 1) // 2)))
        self._known: OrderedDict[int, None] = OrderedDict()

    async def in_turn(
        self, caller: str, grammar: int | None, outputs: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """Yield the outputs of a request, which begins when its grammar may be compiled; None: it has no costly one."""
        async with aclosing(outputs), AsyncExitStack() as turn:
            if grammar is not None and grammar not in self._known:
                await turn.enter_async_context(self._turns.turn(caller))
            async for output in outputs:
                if grammar is not None:
                    await turn.aclose()
                    self._remember(grammar)
                    grammar = None
                yield output

    def _remember(self, grammar: int) -> None:
        self._known[grammar] = None
        self._known.move_to_end(grammar)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)


class DroppingGrammars:
    """A mixin under vLLM's scheduler that drops the grammars of requests which end before they are compiled."""

    def finish_requests(self, request_ids: Any, finished_status: RequestStatus) -> list[Request]:
        finished: list[Request] = super().finish_requests(request_ids, finished_status)  # type: ignore[misc]
        for request in finished:
            structured = request.structured_output_request
            if structured is not None and isinstance(structured._grammar, Future):
                structured._grammar.cancel()
        return finished
