"""What an engine answers before it is called ready, so that no client's request is the first of its kind."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from ...protocol.request import EmbedRequest, Request, Sampling, Tokens

logger = logging.getLogger("vllm_wsgi.worker")

# As many tokens as oneDNN's products and vLLM's attention need to take the paths that long prompts take.
PROMPT_TOKENS = 64


class WarmedEngine(Protocol):
    """The part of an engine that is warmed up. `context_length` is in tokens."""

    context_length: int

    def generate(self, id: int, request: Request) -> AsyncGenerator[Any, None]: ...

    def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Any, None]: ...


async def warm_up_generation(engine: WarmedEngine) -> None:
    """Generate two tokens behind a prompt. Raises what `generate` raises."""
    length = max(1, min(PROMPT_TOKENS, engine.context_length - 2))
    request = Request("", Tokens([0] * length), Sampling(max_tokens=2, ignore_eos=True), request_id="warm-up")
    await _answer("a first answer", engine.generate(0, request))


async def warm_up_embedding(engine: WarmedEngine) -> None:
    """Embed a text. Raises what `embed` raises."""
    request = EmbedRequest("", ["warm up " * PROMPT_TOKENS], request_id="warm-up")
    await _answer("a first embedding", engine.embed(0, request))


async def _answer(name: str, events: AsyncGenerator[Any, None]) -> None:
    began = time.monotonic()
    async with aclosing(events):
        async for _ in events:
            pass
    logger.info("warmed up: %s, %.1f s", name, time.monotonic() - began)
