"""The log probabilities of a prompt are decoded as vLLM decodes them. Needs vLLM, but starts no engine."""

from __future__ import annotations

import pytest
import torch
from vllm.logprobs import FlatLogprobs, create_prompt_logprobs
from vllm.tokenizers import get_tokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.outputs import LogprobsTensors

from service.engine.vllm.prompt_scores import _listed
from tests.support.servers import ROOT

ALTERNATIVES = 5


@pytest.mark.parametrize("text", ["The sky is blue.", "Grüße 😀😀 an alle in 서울", "\ud55c" * 9, "é"])
def test_each_token_has_the_text_that_vllm_gives_it(text: str):
    tokenizer = get_tokenizer(str(ROOT / "models" / "demo"))
    torch.manual_seed(0)
    ids = torch.tensor(tokenizer.encode(text))[1:, None]
    others = torch.randint(3, len(tokenizer), (len(ids), ALTERNATIVES))
    logprobs = -torch.rand(len(ids), 1 + ALTERNATIVES)
    tensors = LogprobsTensors(torch.cat([ids, others], 1), logprobs, torch.ones(len(ids), dtype=torch.int64))
    theirs = LogprobsProcessor(tokenizer, None, create_prompt_logprobs(False), None, None, ALTERNATIVES)
    ours = LogprobsProcessor(None, None, create_prompt_logprobs(True), None, None, ALTERNATIVES)
    for processor in (theirs, ours):
        processor._update_prompt_logprobs(tensors)
    assert isinstance(ours.prompt_logprobs, FlatLogprobs)
    assert theirs.prompt_logprobs is not None
    listed = _listed(tokenizer, ours.prompt_logprobs, ALTERNATIVES)
    assert len(listed) == len(ids)
    for token, place, (number,) in zip(listed, theirs.prompt_logprobs[1:], ids.tolist(), strict=True):
        assert place is not None
        assert (token.token, token.logprob) == (place[number].decoded_token, place[number].logprob)
        texts = [each.decoded_token for each in sorted(place.values(), key=lambda each: -each.logprob)]
        assert [each.token for each in token.top_logprobs] == texts[:ALTERNATIVES]
