"""A real encoder: a small BERT that the test makes, which vLLM resolves to a pooling model by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import pytest

from tests.support.asking import Asker, user
from tests.support.servers import Server
from tests.support.waiting import VLLM_SECONDS

pytestmark = pytest.mark.engine

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase), "the", "sky"]
CONTEXT = 128


def make_tokenizer(directory: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    names = {f"{word.strip('[]').lower()}_token": word for word in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(directory)


def make_model(directory: Path) -> None:
    """Random weights, the same each time; vLLM's CPU attention wants heads of 32."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip
    BertModel(config).save_pretrained(directory)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    directory.mkdir()
    make_tokenizer(directory)
    make_model(directory)
    return directory


@pytest.fixture(scope="module")
def encoder(model: Path) -> Iterator[Asker]:
    server = Server.start(model.parent, env={"MODEL": str(model)}, ready_seconds=VLLM_SECONDS)
    asker = Asker(server.url, "tiny-bert")
    yield asker
    asker.close()
    server.stop(60)


def test_its_vectors_are_those_of_transformers(encoder: Asker, model: Path) -> None:
    import torch
    from transformers import BertModel

    ids = [WORDS.index(word) for word in ("[CLS]", "the", "sky", "[SEP]")]
    first = BertModel.from_pretrained(model)(torch.tensor([ids])).last_hidden_state[0, 0].tolist()
    (vector,) = encoder.post("/api/embed", input="The sky").json()["embeddings"]
    assert vector == pytest.approx([number / math.hypot(*first) for number in first], abs=1e-3)


def test_the_tokens_around_every_text_are_counted_and_an_empty_one_has_them(encoder: Asker) -> None:
    answer = encoder.post("/api/embed", input=["the sky", ""]).json()
    assert (len(answer["embeddings"]), answer["prompt_eval_count"]) == (2, 4 + 2)


def test_a_text_is_cut_at_the_encoders_own_length(encoder: Asker) -> None:
    long = "sky " * 500
    assert encoder.post("/api/embed", input=long).json()["prompt_eval_count"] == CONTEXT
    assert encoder.post("/api/embed", input=long, truncate=False).status_code == 400


def test_it_says_that_it_embeds_and_refuses_to_chat(encoder: Asker) -> None:
    shown = encoder.post("/api/show").json()
    assert (shown["capabilities"], shown["model_info"]["bert.embedding_length"]) == (["embedding"], 64)
    chat = encoder.post("/api/chat", messages=user("a"))
    assert (chat.status_code, chat.json()) == (400, {"error": '"tiny-bert" does not support chat'})
