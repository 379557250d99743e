"""From examples to what a step of the training reads: rows of token ids, with the target at each token."""

import os
import random
from collections.abc import Callable, Iterator

import torch
from configuration import CONFIG, FAR
from corpus import Corpus
from crowds import Crowds
from examples import Example
from torch import Tensor
from transformers import PreTrainedTokenizerBase

POOL = 1600  # examples, among which those of like length make a step

Row = tuple[list[int], list[int]]  # ids and targets


def written(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[str, str]:
    """Return prompt and answer as texts, with all markers."""
    if not example.messages:
        return example.prompt, example.answer + "<|endoftext|>"
    prompt = tokenizer.apply_chat_template(
        example.messages,
        tools=example.tools or None,
        add_generation_prompt=True,
        enable_thinking=example.thinking,
        tokenize=False,
    )
    return prompt + example.begun, example.answer + "<|im_end|>"


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> Row:
    """The token ids of prompt and answer, and the target at each of them: the next token, or -100."""
    read = tokenizer.encode(prompt)
    ids = read + tokenizer.encode(answer)
    targets = ids[1:] + [-100]
    targets[: len(read) - 1] = [-100] * (len(read) - 1)
    for start, stop in earlier_answers(tokenizer, read):
        targets[start:stop] = ids[start + 1 : stop + 1]
    return ids, targets


def earlier_answers(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> Iterator[tuple[int, int]]:
    """From the first to the last token of each answer in the history, which is learnt along with the last answer.

    What makes an answer begin is not: in the history no empty thought stands before it.
    """
    opening = tokenizer.encode("<|im_start|>assistant\n")
    end = tokenizer.eos_token_id
    for start in range(len(ids)):
        if ids[start : start + len(opening)] == opening and end in ids[start:]:
            yield start + len(opening), ids.index(end, start)


def batches(draw: Callable[[float], Row], steps: int, tokens: int, seed: int) -> Iterator[list[Row]]:
    """Yield rows of like length, about `tokens` tokens of them."""
    shuffle, done = random.Random(seed), 0
    while done < steps:
        copying = max(0.05, 0.6 - 2 * done / steps)  # much at first: without copying, names and tools teach nothing
        drawn = sorted((draw(copying) for _ in range(POOL)), key=lambda row: len(row[0]))
        pool: list[list[Row]] = [[]]
        for row in drawn:
            if len(row[0]) * (len(pool[-1]) + 1) > tokens:
                pool.append([])
            pool[-1].append(row)
        shuffle.shuffle(pool)
        yield from pool[: steps - done]
        done += len(pool)


def padded(rows: list[Row]) -> tuple[Tensor, Tensor]:
    """Return ids and targets of the rows, (rows, length of the longest)."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), CONFIG["pad_token_id"])
    targets = torch.full((len(rows), longest), -100)
    for row, (tokens, wanted) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, : len(tokens)] = torch.tensor(wanted)
    return ids, targets


class Drawn:
    """Draws rows of short prompts, and of what stands behind the FAR tokens of long ones."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, corpus: Corpus, crowds: Crowds) -> None:
        self.tokenizer, self.corpus, self.crowds = tokenizer, corpus, crowds

    def short(self, copying: float) -> Row:
        return encode(self.tokenizer, *written(self.tokenizer, self.corpus.draw(copying)))

    def crowd(self, conversations: int) -> tuple[list[int], list[Row]]:
        """Return what the ends of long prompts begin with that have the same tools, and what goes on after it.

        Of twice as many conversations, these are the shorter or the longer half.
        """
        texts = (written(self.tokenizer, example) for example in self.crowds.draw(2 * conversations))
        rows = [encode(self.tokenizer, prompt.rpartition(FAR)[2], answer) for prompt, answer in texts]
        common = len(os.path.commonprefix([ids[: first_wanted(targets)] for ids, targets in rows]))
        rows.sort(key=lambda row: len(row[0]))
        start = self.crowds.random.choice([0, conversations])
        half = rows[start : start + conversations]
        return half[0][0][:common], [(ids[common:], targets[common:]) for ids, targets in half]


def first_wanted(targets: list[int]) -> int:
    return next(index for index, target in enumerate(targets) if target >= 0)
