from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from service.engine.vllm.warm_up import PROMPT_TOKENS, warm_up_embedding, warm_up_generation
from service.errors import EngineGone
from service.protocol.request import EmbedRequest, Request, Tokens


class Engine:
    """Keeps what it is asked."""

    def __init__(self, context_length: int = 2048, fails: bool = False) -> None:
        self.context_length = context_length
        self.fails = fails
        self.asked: list[Any] = []

    async def generate(self, id: int, request: Request) -> AsyncGenerator[Any, None]:
        self.asked.append(request)
        if self.fails:
            raise EngineGone("the engine stopped")
        yield None

    async def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Any, None]:
        self.asked.append(request)
        yield None


@pytest.mark.parametrize(("context", "tokens"), [(2048, PROMPT_TOKENS), (16, 14), (2, 1)])
def test_a_generation_fits_the_context(context: int, tokens: int):
    asyncio.run(warm_up_generation(engine := Engine(context)))
    prompt = engine.asked[0].prompt
    assert isinstance(prompt, Tokens)
    assert len(prompt.ids) == tokens


def test_a_pooling_model_embeds():
    asyncio.run(warm_up_embedding(engine := Engine()))
    assert isinstance(engine.asked[0], EmbedRequest)


def test_an_engine_that_dies_of_its_first_answer_is_not_ready():
    with pytest.raises(EngineGone):
        asyncio.run(warm_up_generation(Engine(fails=True)))
