"""Has vLLM compute the log probabilities of a prompt once, for all answers to it, and decodes them off the loop.

vLLM computes each of `n` answers with log probabilities of its prompt as if there were no others: it reads nothing from
the prefix cache for them. So they come from a request of their own for one token, and the answers find the prompt in
the cache. vLLM would also decode each of the tokens on the loop that serves, which takes seconds for a long prompt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from copy import copy
from typing import Any

from vllm import SamplingParams
from vllm.logprobs import FlatLogprobs
from vllm.sampling_params import RequestOutputKind
from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.logprobs import LogprobsProcessor

from ...protocol.events import TokenLogprob
from .outputs import check_end, token_logprobs

# Runs a function with its arguments in a thread.
Run = Callable[..., Awaitable[list[TokenLogprob]]]


async def prompt_scores(
    engine: AsyncLLM, run: Run, parameters: SamplingParams, request_id: str, **request: Any
) -> list[TokenLogprob] | None:
    """Return the log probabilities of a prompt behind its first token, and take them out of the answers' parameters.

    None where the answers don't want them, or where the one answer brings them, since there is no prefix cache.
    `request` goes to vLLM. Raises what vLLM raises, EngineGone and EngineFailure.
    """
    alone = parameters.n == 1 and not engine.vllm_config.cache_config.enable_prefix_caching
    if parameters.prompt_logprobs is None or alone:
        return None
    once = copy(parameters)
    once.n, once.max_tokens, once.min_tokens = 1, 1, 0
    once.output_kind, once.structured_outputs, once.stop = RequestOutputKind.FINAL_ONLY, None, []
    once.logprobs, once.detokenize = None, False
    alternatives = parameters.prompt_logprobs
    parameters.prompt_logprobs, parameters.flat_logprobs, parameters.skip_reading_prefix_cache = None, False, False
    scores = FlatLogprobs()
    outputs = engine.generate(sampling_params=once, request_id=f"{request_id}-prompt", **request)
    async with aclosing(outputs):
        async for output in outputs:
            check_end(output.outputs[0])
            scores = output.prompt_logprobs
    return await run(_listed, engine.renderer.get_tokenizer(), scores, alternatives)


def _listed(tokenizer: Any, scores: FlatLogprobs, alternatives: int) -> list[TokenLogprob]:
    """Return an entry for each token behind the first one, which has none. Decodes as vLLM's `LogprobsProcessor`."""
    texts_of = dict.fromkeys(scores.token_ids, "")
    texts_of.update(zip(texts_of, convert_ids_list_to_tokens(tokenizer, list(texts_of)), strict=True))
    processor = LogprobsProcessor(tokenizer, None, None, None, None, None)
    # The prompt's own token is the first one at its place.
    ids: list[int] = []
    for start, end in zip(scores.start_indices[1:], scores.end_indices[1:], strict=True):
        there = scores.token_ids[start:end]
        texts = [texts_of[each] for each in there]
        scores.decoded_tokens[start:end] = processor._verify_tokens(texts, there, ids[-4:])
        ids.append(there[0])
    return token_logprobs(ids, scores[1:], alternatives)
