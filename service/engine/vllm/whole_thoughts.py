"""Keeps an answer that must fit a grammar from ending within its thought, where the grammar does not hold yet.

vLLM applies no grammar to a thought. A model that ends its answer there would leave it empty, although a schema or a
call was asked for. The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.request import Request

# The key in SamplingParams.extra_args of requests whose thought may not end the answer.
WHOLE_THOUGHT = "vllm_wsgi_whole_thought"
# An answer with so many tokens may end within its thought: a model that does not think at all would never end it.
MOST_TOKENS = 8_192


class WholeThoughts:
    """A mixin under vLLM's scheduler that bars the tokens which end an answer, for as long as it thinks."""

    requests: dict[str, Request]

    def get_grammar_bitmask(self, scheduler_output: SchedulerOutput) -> GrammarOutput | None:
        output: GrammarOutput | None = super().get_grammar_bitmask(scheduler_output)  # type: ignore[misc]
        # With speculative decoding a request has several rows, and the thought may end between them.
        if output is None or output.grammar_bitmask is None or scheduler_output.scheduled_spec_decode_tokens:
            return output
        for row, request_id in zip(output.grammar_bitmask, output.structured_output_request_ids, strict=False):
            request = self.requests[request_id]
            if must_go_on(request):
                bar(row, request.sampling_params.all_stop_token_ids)
        return output


def bar(row: Any, token_ids: set[int]) -> None:
    """Bar tokens in a row of a bitmask, which has a bit for each token, in 32-bit integers."""
    bits = row.view(np.uint32)
    for token_id in token_ids:
        if token_id < 32 * len(bits):
            bits[token_id // 32] &= np.uint32(~(1 << token_id % 32) & 0xFFFFFFFF)


def must_go_on(request: Request) -> bool:
    """Return whether a request may not end yet, since it thinks."""
    structured, parameters = request.structured_output_request, request.sampling_params
    if structured is None or parameters is None or structured.reasoning_ended is not False:
        return False
    is_asked = bool(parameters.extra_args and parameters.extra_args.get(WHOLE_THOUGHT))
    return is_asked and request.num_output_tokens < MOST_TOKENS
