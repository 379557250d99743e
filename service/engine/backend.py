"""What an engine worker hosts: the one interface of vLLM and of the scripted engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from ..errors import BadRequest
from ..protocol.events import Delta, Finished, Rendered, Vectors
from ..protocol.reports import Pulse
from ..protocol.request import Caller, EmbedRequest, Request


def check_prompt(caller: Caller, tokens: int) -> None:
    """Raises BadRequest for a prompt that is longer than the caller's may be."""
    if 0 < caller.max_prompt_tokens < tokens:
        raise BadRequest(f"the prompt has {tokens} tokens, and may have {caller.max_prompt_tokens}")


class Engine(Protocol):
    """What a worker hosts: vLLM, or a script. Lengths are in tokens; `capacity` are the sequences it takes at once."""

    context_length: int
    device: str
    cache_bytes: int
    capacity: int

    async def warm_up(self) -> None:
        """Answer something, before the engine is called ready. Raises ServiceError."""

    def generate(self, id: int, request: Request) -> AsyncGenerator[Delta | Finished | Rendered, None]:
        """Deltas and one Finished, or one Rendered; closing the iterator cancels. Raises ServiceError."""

    def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Vectors, None]:
        """The inputs' vectors, in order; closing the iterator cancels. Raises ServiceError."""

    async def pulse(self) -> Pulse:
        """Answered by the engine itself, not by this process; raises EngineGone when it is dead."""

    def metrics(self) -> str:
        """Its own, in Prometheus' text format."""

    async def shutdown(self) -> None:
        """Ends the engine's processes."""
