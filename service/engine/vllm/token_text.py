"""The text of each token of an answer, so that a parser gets a token's id and its text together."""

from __future__ import annotations

from typing import Any

from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer


class TokenText:
    """Decodes one answer with vLLM's own detokenizer, one token at a time.

    vLLM's engine holds back text that may become a stop string, so its deltas have ids whose text comes later.
    """

    def __init__(self, tokenizer: Any, prompt_ids: list[int], skip_special_tokens: bool) -> None:
        request = EngineCoreRequest(
            request_id="",
            prompt_token_ids=prompt_ids,
            mm_features=None,
            sampling_params=SamplingParams(skip_special_tokens=skip_special_tokens),
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        self._detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, request)

    def next(self, token_id: int, ends: bool = False) -> str:
        """Return the text that the token adds; empty when it ends inside a character, or when it `ends` the answer."""
        self._detokenizer.update([token_id], ends)
        return str(self._detokenizer.get_next_output_text(finished=False, delta=True))
