"""Lets callers take turns in having grammars compiled by vLLM's core, and ends what nobody waits for any more.

The core compiles in few threads, in the order of arrival. So a request with a costly grammar that is not known yet goes
there in a turn of its caller's, which lasts until its first output or its end. The core drops a grammar that it has not
begun when its request ends. One that it has begun it compiles to its end; the bounds of schemas keep that to seconds.

The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from vllm.v1.request import Request, RequestStatus

from ..backend import Emit
from .turns import Turns

# How many grammars are known to be compiled; the core keeps them by their size.
KNOWN = 512


class Compiling:
    """The grammars of one engine that are being compiled."""

    def __init__(self, threads: int = 0) -> None:
        # vLLM's StructuredOutputManager has as many threads; one caller may have all of them busy.
        self._turns = Turns(1 + (threads or max(1, ((os.cpu_count() or 1) + 1) // 2)))
        self._known: OrderedDict[int, None] = OrderedDict()

    async def in_turn(
        self, caller: str, grammar: int | None, answer: Callable[[Emit], Awaitable[None]], emit: Emit
    ) -> None:
        """Answer a request once its grammar may be compiled; None: it has no costly one.

        `answer` emits the request's events, and the turn ends with the first of them. Raises what `answer` raises.
        """
        if grammar is None:
            await answer(emit)
            return
        with ExitStack() as turn:
            if grammar not in self._known:
                await self._turns.begin(caller)
                turn.callback(self._turns.end, caller)

            def emit_compiled(event: Any) -> None:
                nonlocal grammar
                if grammar is not None:
                    turn.close()
                    self._remember(grammar)
                    grammar = None
                emit(event)

            await answer(emit_compiled)

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
