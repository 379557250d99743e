from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from service.engine.backend import Emit
from service.engine.vllm.warm_up import LENGTHS, LONG_SECONDS, Abilities, warm_up_embedding, warm_up_generation
from service.errors import BadRequest, EngineGone
from service.protocol.request import Chat, EmbedRequest, Request

NOTHING = Abilities()


class Engine:
    """Keeps what it is asked, and fails at the requests with these numbers."""

    def __init__(self, context_length: int = 2048, fails: dict[int, Exception] | None = None) -> None:
        self.context_length = context_length
        self.fails = fails or {}
        self.asked: list[Any] = []

    async def generate(self, id: int, request: Request, emit: Emit) -> None:
        self.asked.append(request)
        if error := self.fails.get(len(self.asked)):
            raise error

    async def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Any, None]:
        self.asked.append(request)
        yield None


def warm_up(engine: Engine, abilities: Abilities = NOTHING) -> Engine:
    asyncio.run(warm_up_generation(engine, abilities))
    return engine


@pytest.mark.parametrize(
    ("context", "lengths"), [(4096, [*LENGTHS]), (2048, [64, 256, 1024, 2046]), (16, [14]), (2, [1])]
)
def test_prompts_of_all_lengths_are_answered_that_fit_the_context(context: int, lengths: list[int]):
    prompts = [request.prompt for request in warm_up(Engine(context)).asked]
    assert [len(prompt.ids) for prompt in prompts[: len(lengths)]] == lengths
    assert all(len(prompt.ids) <= 8 for prompt in prompts[len(lengths) :])


def test_a_slow_machine_is_not_warmed_up_with_long_prompts(monkeypatch: pytest.MonkeyPatch):
    times = itertools.count(step=LONG_SECONDS * 2)
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    assert len(warm_up(Engine()).asked[1].prompt.ids) <= 8


def test_what_a_model_can_do_is_done_once():
    plain, able = warm_up(Engine()).asked, warm_up(Engine(), Abilities(chats=True, tools=True, sees=True)).asked
    assert not any(isinstance(request.prompt, Chat) for request in plain)
    chats = [request.prompt for request in able[len(plain) :]]
    assert [bool(chat.tools) for chat in chats] == [False, True, False]
    assert chats[2].messages[0].images


def test_the_image_is_one():
    engine = warm_up(Engine(), Abilities(sees=True))
    data = engine.asked[-1].prompt.messages[0].images[0].data
    assert data.startswith(b"\x89PNG")
    assert data.endswith(b"IEND\xaeB`\x82")


def test_a_pooling_model_embeds():
    asyncio.run(warm_up_embedding(engine := Engine()))
    assert isinstance(engine.asked[0], EmbedRequest)


@pytest.mark.parametrize("error", [BadRequest("no penalties"), NotImplementedError("no penalties")])
def test_a_feature_that_the_model_does_not_have_is_left_out(error: Exception):
    assert len(warm_up(Engine(fails={6: error})).asked) == len(warm_up(Engine()).asked)


@pytest.mark.parametrize("number", [1, 7])
def test_an_engine_that_dies_meanwhile_is_not_ready(number: int):
    with pytest.raises(EngineGone):
        warm_up(Engine(fails={number: EngineGone("the engine stopped")}))
