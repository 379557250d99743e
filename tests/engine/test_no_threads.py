"""A short request is prepared without a thread and without a deep copy, ours or vLLM's. Starts no engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from service.engine.vllm.preparation import Preparation
from service.engine.vllm.render import Prompt
from service.engine.vllm.templating import CallersTemplating
from service.engine.vllm.vision import engine_input


class Counting(Preparation):
    """Counts the steps in threads."""

    steps = 0

    async def run(self, *arguments: Any, **named: Any) -> Any:
        self.steps += 1
        return await super().run(*arguments, **named)


class Words:
    """A model of words."""

    longest_token = 1

    def encode(self, text: str) -> list[int]:
        return list(map(len, text.split()))

    def apply_chat_template(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> Prompt:
        return Prompt([len(messages)])


@pytest.mark.parametrize(("at_once", "steps"), [(True, 0), (False, 2)])
def test_a_step_of_a_short_request_takes_no_thread(at_once: bool, steps: int):
    async def play() -> int:
        preparation = Counting()
        words: Any = Words()
        prepared = CallersTemplating(words, preparation, "a", at_once)
        assert await prepared.encode("one two") == [3, 3]
        assert (await prepared.apply_chat_template([{"content": "a"}])).ids == [1]
        return preparation.steps

    assert asyncio.run(play()) == steps


def test_vllm_takes_our_prompts_as_rendered():
    # Anything else takes it a step in its own thread (`AsyncLLM.add_request`).
    assert engine_input(Prompt([1, 2])) == {"type": "token", "prompt_token_ids": [1, 2]}


def test_vllm_makes_no_deep_copy_of_our_parameters():
    parameters = SamplingParams(output_kind=RequestOutputKind.DELTA, skip_clone=True, extra_args={"a": "b"})
    assert parameters.clone().extra_args is parameters.extra_args
