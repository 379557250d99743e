"""An answer that moves to another engine continues exactly: the contract of resume.py with this release of vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest

from service.engine.vllm.build import build_engine
from service.engine.vllm.engine import VllmEngine
from service.protocol.events import Delta, Finished
from service.protocol.request import Chat, Message, Request, Sampling, SoFar, Text
from tests.support.asking import WEATHER
from tests.support.pushed import pushed
from tests.support.servers import ROOT

LONG = "Tell me a long story"


def chat(question: str, think: bool = False, **fields: Any) -> Chat:
    return Chat([Message("user", question)], think=think, **fields)


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
}
REQUESTS = {
    "plain": Request("demo", chat(LONG), Sampling(max_tokens=60)),
    "thinking": Request("demo", chat("What is vllm-wsgi?", think=True)),
    "characters split over tokens": Request("demo", chat("Show me some emoji")),
    "a tool call": Request("demo", chat("What is the weather in Paris?", think=True, tools=[WEATHER])),
    "a seed": Request("demo", chat(LONG), Sampling(max_tokens=40, temperature=0.9, seed=7)),
    "a repetition penalty": Request("demo", chat(LONG), Sampling(max_tokens=40, repetition_penalty=1.4)),
    "a stop string": Request("demo", chat(LONG), Sampling(max_tokens=80, stop=["morning"])),
    "a schema": Request("demo", chat("Who are you?"), Sampling(max_tokens=60), format=SCHEMA),
    "thinking, then a schema": Request(
        "demo", chat("Who are you?", think=True), Sampling(max_tokens=90), format=SCHEMA
    ),
    "log probabilities": Request("demo", chat(LONG), Sampling(max_tokens=20), logprobs=2),
    "raw text": Request("demo", Text("Hello"), Sampling(max_tokens=20)),
    "an echo": Request("demo", Text("Hello"), Sampling(max_tokens=20), echo=True),
    "the log probabilities of an echo": Request(
        "demo", Text("The sky is"), Sampling(max_tokens=20), echo=True, logprobs=1
    ),
    "log probabilities of text that is held back": Request(
        "demo", Text("The sky is"), Sampling(max_tokens=20, stop=["x" * 30]), echo=True, logprobs=0
    ),
    "the log probabilities of a thought": Request("demo", chat("Who are you?", think=True), logprobs=0),
    "the log probabilities of a call": Request(
        "demo", chat("What is the weather in Paris?", tools=[WEATHER]), logprobs=0
    ),
}


@dataclass
class Whole:
    """What the deltas of one answer amount to."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    thinking: str = ""
    calls: list[Any] = field(default_factory=list)
    logprobs: list[str] = field(default_factory=list)
    end: tuple[Any, ...] = ()

    def add(self, event: Any) -> None:
        if isinstance(event, Delta):
            self.token_ids += event.token_ids
            self.text += event.text
            self.thinking += event.thinking
            self.calls += [call["function"] for call in event.tool_calls]
            self.logprobs += [token.token for token in event.logprobs]
        elif isinstance(event, Finished):
            self.end = (event.reason, event.prompt_tokens, event.output_tokens, event.stop)

    def so_far(self) -> SoFar:
        return SoFar(list(self.token_ids), len(self.text), len(self.thinking), len(self.calls))


class Loop:
    """An engine, and the event loop that it lives in."""

    def __init__(self, **more: Any) -> None:
        self.loop = asyncio.new_event_loop()
        arguments = {"max_model_len": 1024, "kv_cache_memory_bytes": 1 << 26, "max_num_seqs": 32, **more}
        self.engine: VllmEngine = self.run(self._build(arguments))

    async def _build(self, arguments: dict[str, Any]) -> VllmEngine:
        return build_engine(str(ROOT / "models" / "demo"), arguments, "", "", "")

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def answer(self, request: Request, deltas: int | None = None, whole: Whole | None = None) -> Whole:
        """The answer, or what its first `deltas` deltas bring, added to what is there already."""
        whole = whole or Whole()
        events = pushed(partial(self.engine.generate, 1, request))
        try:
            async for event in events:
                if deltas == 0:
                    break
                whole.add(event)
                if isinstance(event, Delta) and deltas is not None:
                    deltas -= 1
        finally:
            await events.aclose()
        return whole

    def close(self) -> None:
        self.run(self.engine.shutdown())
        self.loop.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def assert_continues_exactly(loop: Loop, request: Request) -> None:
    """Wherever the answer is cut."""
    undisturbed = loop.run(loop.answer(request))
    assert undisturbed.end
    deltas = len(undisturbed.token_ids)
    for cut in sorted({1, 2, deltas // 2, deltas - 1} - {0}):
        begun = loop.run(loop.answer(request, deltas=cut))
        if len(begun.token_ids) == deltas:
            # Two tokens came at once. The last token and the end of an answer leave an engine in one message.
            continue
        moved = msgspec.structs.replace(request, so_far=begun.so_far())
        assert loop.run(loop.answer(moved, whole=begun)) == undisturbed, f"cut after {cut} deltas"


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_answer_that_is_cut_anywhere_continues_exactly(loop: Loop, kind: str) -> None:
    assert_continues_exactly(loop, REQUESTS[kind])


def test_a_seeded_answer_does_not_depend_on_how_its_prompt_is_cut_into_steps() -> None:
    """vLLM's CPU build dies of the draw that it takes back after part of a prompt."""
    cut = Loop(max_num_batched_tokens=64)
    try:
        request = msgspec.structs.replace(REQUESTS["a seed"], prompt=chat("Tell me a long story. " * 30))
        first = cut.run(cut.answer(request))
        # Now the prefix cache holds the prompt, so that one step is enough.
        assert cut.run(cut.answer(request)) == first
        assert_continues_exactly(cut, request)
    finally:
        cut.close()
