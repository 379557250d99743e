"""Has vLLM compute the log probabilities of a prompt once, for all answers to it.

vLLM computes each of `n` answers with log probabilities of its prompt as if there were no others: it reads nothing from
the prefix cache for them. So they come from a request of their own for one token, and the answers find the prompt in
the cache.
"""

from __future__ import annotations

from contextlib import aclosing
from copy import copy
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from .outputs import check_end


async def prompt_scores(engine: AsyncLLM, parameters: SamplingParams, request_id: str, **request: Any) -> Any:
    """Return the log probabilities of a prompt, and take them out of the parameters of its answers.

    None where the answers don't want them, or where there is one answer, which brings them. `request` goes to vLLM.
    Raises what vLLM raises, EngineGone and EngineFailure.
    """
    if parameters.prompt_logprobs is None or parameters.n == 1:
        return None
    once = copy(parameters)
    once.n, once.max_tokens, once.min_tokens = 1, 1, 0
    once.output_kind, once.structured_outputs, once.stop = RequestOutputKind.FINAL_ONLY, None, []
    parameters.prompt_logprobs, parameters.skip_reading_prefix_cache = None, False
    scores = None
    outputs = engine.generate(sampling_params=once, request_id=f"{request_id}-prompt", **request)
    async with aclosing(outputs):
        async for output in outputs:
            check_end(output.outputs[0])
            scores = output.prompt_logprobs
    return scores
