"""The requests that an engine answers before it is reported ready, so that no client's is the first of its kind.

The first use of a feature imports, allocates and on some machines compiles something, which takes from a tenth of a
second to minutes; all other streams of the engine would stand still meanwhile.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

from ...errors import EngineGone, ServiceError
from ...protocol.request import Chat, EmbedRequest, Image, Message, Request, Sampling, Tokens
from ..backend import Emit

logger = logging.getLogger("vllm_wsgi.worker")

# The lengths of prompts, in tokens: oneDNN and vLLM's attention take other paths for longer ones, and prepare each.
LENGTHS = (64, 256, 1024, 2048)
LONG_SECONDS = 2.0
# A feature needs no long prompt.
FEATURE_TOKENS = 8
ID = "warm-up"

_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
# A white image of 32 by 32 pixels: smaller ones are refused by some models' processors.
_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAJklEQVR42u3NMQ0AAAwDoPo33arYsQQMkB6LQCAQCAQCgUAg+BIM"
    "i1X0ptsIcT0AAAAASUVORK5CYII="
)


class Abilities(NamedTuple):
    """The abilities of a model besides continuing a text."""

    chats: bool = False
    tools: bool = False
    sees: bool = False


class WarmedEngine(Protocol):
    """The part of an engine that is warmed up. `context_length` is in tokens."""

    context_length: int

    async def generate(self, id: int, request: Request, emit: Emit) -> None: ...

    def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Any, None]: ...


async def warm_up_generation(engine: WarmedEngine, abilities: Abilities) -> None:
    """Use each feature once. Raises what `generate` raises for a plain prompt, and EngineGone for any."""
    short = Sampling(max_tokens=2, ignore_eos=True)
    for length in LENGTHS:
        prompt = Tokens([0] * max(1, min(length, engine.context_length - 2)))
        request = Request(ID, prompt, short, request_id=ID)
        seconds = await _seconds_of(f"a prompt of {len(prompt.ids)} tokens", engine.generate(0, request, _ignore))
        if seconds > LONG_SECONDS or len(prompt.ids) < length:
            # A slow machine, on which longer prompts are slow anyway; or the context is full.
            break
    for name, request in _features(Tokens(prompt.ids[:FEATURE_TOKENS]), abilities):
        try:
            await _seconds_of(name, engine.generate(0, request, _ignore))
        except EngineGone:
            raise
        except ServiceError as error:
            # A model need not have every feature, and what it can't do is refused to clients in the same way.
            logger.info("not warmed up: %s: %s", name, error.message)
        except Exception as error:
            # Such a request of a client will fail as well. That is no reason to refuse all others.
            logger.warning("not warmed up: %s: %r", name, error)


async def warm_up_embedding(engine: WarmedEngine) -> None:
    """Embed a text. Raises what `embed` raises."""
    request = EmbedRequest(ID, ["warm up " * LENGTHS[0]], request_id=ID)
    await _seconds_of("a first embedding", _exhaust(engine.embed(0, request)))


def _features(prompt: Tokens, abilities: Abilities) -> Iterator[tuple[str, Request]]:
    """One request for each feature, with its name for the log."""
    short = Sampling(max_tokens=2, ignore_eos=True)
    drawn = Sampling(max_tokens=2, ignore_eos=True, temperature=1.0, top_k=5, top_p=0.9, min_p=0.1, seed=1)
    yield "sampling", Request(ID, prompt, drawn, request_id=ID)
    penalties = Sampling(
        max_tokens=2, ignore_eos=True, temperature=1.0, repetition_penalty=1.1, presence_penalty=0.1,
        frequency_penalty=0.1, logit_bias={0: 1.0}, min_tokens=1, bad_words=["warm"],
    )  # fmt: skip
    yield "penalties", Request(ID, prompt, penalties, request_id=ID)
    yield "log probabilities", Request(ID, prompt, short, logprobs=2, echo=True, request_id=ID)
    for form in ("json", _SCHEMA):
        yield "structured output", Request(ID, prompt, Sampling(max_tokens=4), format=form, request_id=ID)
    if abilities.chats:
        chat = Chat([Message("user", "Hello")], must_think=False)
        yield "chat", Request(ID, chat, short, request_id=ID)
    if abilities.tools:
        calling = Chat([Message("user", "Hello")], [_TOOL], must_think=False, tool_choice="required")
        yield "tools", Request(ID, calling, Sampling(max_tokens=4), request_id=ID)
    if abilities.sees:
        seeing = Chat([Message("user", [Image(_IMAGE), "What is this?"])], must_think=False)
        yield "images", Request(ID, seeing, short, request_id=ID)


def _ignore(event: Any) -> None:
    """Take an event, and drop it."""


async def _exhaust(events: AsyncGenerator[Any, None]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass


async def _seconds_of(name: str, answer: Awaitable[None]) -> float:
    """Return the seconds that it took."""
    began = time.monotonic()
    await answer
    seconds = time.monotonic() - began
    logger.info("warmed up: %s, %.1f s", name, seconds)
    return seconds
