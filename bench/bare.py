"""The floor: AsyncLLM in one process, asked in Python, without HTTP, JSON or a queue.

It follows load.py's protocol; its own process is the part in front of the engine's core.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import msgspec


class Task(msgspec.Struct):
    """The user's `questions`, and how many `tokens` each answer has."""

    questions: list[str]
    tokens: int


async def main(model: str, engine_args: dict[str, Any]) -> None:
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    from .load import Outcome, add_times, say

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **engine_args))
    tokenizer = engine.renderer.get_tokenizer()

    def render(question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])

    async def answer(number: int, prompt_ids: list[int], tokens: int) -> list[float]:
        parameters = SamplingParams(temperature=0.0, max_tokens=tokens, output_kind=RequestOutputKind.DELTA)
        outputs = engine.generate({"prompt_token_ids": prompt_ids}, parameters, request_id=str(number))
        return [time.monotonic() async for output in outputs if output.outputs[0].text]

    say("up")
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = msgspec.json.decode(line, type=Task)
        prompts = [render(question) for question in task.questions]
        say("ready")
        sys.stdin.readline()
        asked = time.monotonic()
        times = await asyncio.gather(*[answer(number, ids, task.tokens) for number, ids in enumerate(prompts)])
        say("done")
        outcome = Outcome(len(prompts) * task.tokens, max(each[-1] for each in times) - asked)
        outcome.prompt_tokens = len(prompts[0])
        for each in times:
            add_times(outcome, asked, each)
        say(msgspec.json.encode(outcome).decode())


if __name__ == "__main__":
    # vLLM prints to standard output, where this process' own lines must go alone.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asyncio.run(main(sys.argv[1], msgspec.json.decode(sys.argv[2])))
