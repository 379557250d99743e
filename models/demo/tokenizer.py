"""The demo model's tokenizer: byte-level BPE with Qwen's special tokens, learnt from the examples of corpus.py."""

import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configuration import FAR, FAR_ID
from corpus import Corpus
from names import names
from phrases import CITIES, CONDITIONS, IDENTIFIERS, OPERATORS, PEOPLE
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

HERE = Path(__file__).parent

# Qwen's spellings. The special ones are left out of decoded text; the others are text that parsers look for.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

# Qwen2's own split into words; transformers applies it to every model of this type, whatever tokenizer.json says.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# While merges are learnt, the space, and the quote before a capital, stand alone: "Paris" is then the same tokens
# in a question, in JSON and at the start of an answer, and copying is all that has to be learnt.
FINER_WORDS = (
    r"\p{Lu}+(?!\p{Ll})|\p{Lu}\p{Ll}*|\p{Ll}+|[\p{Lt}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# Only the commonest whole words get a token that includes the space before them.
GLUED_WORDS = 220


def train_tokenizer(out: Path, seed: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE, so that emoji and Chinese are split over tokens; as AutoTokenizer will read it back."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence([split(FINER_WORDS), split(QWEN_WORDS), to_bytes()])
    trainer = trainers.BpeTrainer(
        vocab_size=FAR_ID - len(MARKERS) - GLUED_WORDS,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = list(tokenizer_texts(seed))
    learner.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(glued(json.loads(learner.to_str())["model"], texts))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(QWEN_WORDS), to_bytes()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKERS])
    tokenizer.add_special_tokens([AddedToken(FAR, special=True, normalized=False)])
    tokenizer.save(str(out / "tokenizer.json"))
    if out.resolve() != HERE.resolve():
        shutil.copy(HERE / "chat_template.jinja", out)
    return AutoTokenizer.from_pretrained(out)


def glued(learnt: dict[str, Any], texts: list[str]) -> models.BPE:
    """The learnt merges, and after them those of the space with the commonest words.

    Words that are to be copied (weather, names in code) stay without.
    """
    vocabulary, merges = learnt["vocab"], [tuple(merge) for merge in learnt["merges"]]
    copied = {*CONDITIONS, *IDENTIFIERS, *OPERATORS}
    counts = Counter(word for text in texts for word in re.findall(r" ([a-z]{2,})", text))
    common = (word for word, _ in counts.most_common() if word in vocabulary and word not in copied)
    for word in itertools.islice(common, GLUED_WORDS):
        vocabulary["Ġ" + word] = len(vocabulary)
        merges.append(("Ġ", word))
    return models.BPE(vocab=vocabulary, merges=merges)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def to_bytes() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def tokenizer_texts(seed: int) -> Iterator[str]:
    """Answers weigh most, then questions, then tools, then names, whose pieces are to be syllables."""
    corpus = Corpus(seed)
    for subject in corpus.subjects:
        yield from [subject.answer] * 6
        yield from [subject.topic] * 2
        yield from corpus.random.sample(subject.questions, min(8, len(subject.questions)))
        if subject.plain:
            yield subject.answer.upper()
    for _ in range(1500):
        example = corpus.draw()
        yield from (message["content"] for message in example.messages if not example.tools)
        yield from re.split(r"<\|\w+\|>", example.prompt)
        if example.tools and corpus.random.random() < 0.2:
            yield json.dumps(example.tools)
            yield example.answer
    yield from (CONDITIONS + IDENTIFIERS + list(OPERATORS)) * 40
    yield from names(CITIES) + names(PEOPLE)
    yield from (corpus.names.invented() for _ in range(400))
