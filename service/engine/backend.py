"""The interface of the engine that a worker hosts: vLLM, or the scripted engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from ..errors import BadRequest, PromptTooLong
from ..protocol.events import Delta, Finished, Rendered, Vectors
from ..protocol.reports import Pulse
from ..protocol.request import Caller, EmbedRequest, Request

# Takes each event of an answer as it comes up.
Emit = Callable[["Delta | Finished | Rendered"], None]


def check_prompt(caller: Caller, tokens: int) -> None:
    """Raise PromptTooLong when the prompt is longer than the caller's prompts may be."""
    if 0 < caller.max_prompt_tokens < tokens:
        message = f"the prompt has {tokens} tokens, and may have {caller.max_prompt_tokens}"
        raise PromptTooLong(message, tokens=tokens, limit=caller.max_prompt_tokens)


def check_scored(request: Request, tokens: int) -> None:
    """Raise BadRequest when a prompt of so many tokens is too long for the log probabilities that are wanted of it."""
    if request.echo and request.logprobs is not None and 0 < request.scored_tokens < tokens:
        raise BadRequest(
            f"the prompt has {tokens} tokens, and with echo and logprobs it may have {request.scored_tokens}: the "
            "tokens of all prompts, times n, times logprobs + 1, are bounded",
            param="logprobs",
        )


class Engine(Protocol):
    """An engine with its model loaded.

    `context_length` is in tokens. `cache_bytes` is the size of its KV cache, `capacity` the number of sequences that it
    runs at once.
    """

    context_length: int
    device: str
    cache_bytes: int
    capacity: int

    async def warm_up(self) -> None:
        """Answer something, before the engine is called ready. Raises ServiceError."""

    async def generate(self, id: int, request: Request, emit: Emit) -> None:
        """Emit Deltas and one Finished for each answer, or one Rendered. Return when all answers have ended.

        Events are emitted where they come up, without a wake-up of this coroutine. Raises ServiceError.
        """

    def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Vectors, None]:
        """Yield the inputs' vectors, in order. Closing the iterator cancels. Raises ServiceError."""

    async def pulse(self) -> Pulse:
        """Return what the engine itself answers, not this process. Raises EngineGone when the engine is dead."""

    def metrics(self) -> str:
        """Return the engine's own metrics in Prometheus' text format."""

    async def shutdown(self) -> None:
        """End the engine's processes."""
