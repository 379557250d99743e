"""The last part of the training: short prompts, and the ends of long ones.

It has several stages. In some of them, several trainings go on from the same weights with different seeds, each in a
process of its own on one thread. The mean of their weights makes fewer mistakes than each of them.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
from configuration import CONFIG
from corpus import Corpus
from crowds import DIGITS, Crowds
from learner import Learner
from network import Qwen2
from rows import Drawn, Row, batches
from safetensors.torch import load, save
from torch import Tensor
from transformers import AutoTokenizer

COPYING = 0.05  # the share of examples in which words are only to be copied

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """`rates` are the highest learning rates, one for each training. `full` steps have them; then they fall to 0."""

    rates: tuple[float, ...]
    steps: int
    full: int = 0
    warm_up: int = 20
    short_tokens: int = 2304  # a step
    end_tokens: int = 2048  # a step
    weights: dict[str, float] = field(default_factory=dict)
    end_weights: dict[str, float] = field(default_factory=dict)
    crowds: dict[str, float] = field(default_factory=dict)
    keeps: bool = False  # half of the weights from before

    def rate(self, step: int, highest: float) -> float:
        rising = min(1.0, (step + 1) / self.warm_up)
        falling = min(1.0, (self.steps - step) / (self.steps - self.full))
        return highest * min(rising, falling)


# More of what was still weak after the first stage, and after the third one, which did not think before most answers.
MORE = {"question": 52, "upper": 18, "add_call": 7, "missing_tool": 4, "unrelated_with_tools": 8}
THOUGHTS = {**MORE, "short_question": 10, "missing_tool": 7}
MORE_THOUGHTS = {**MORE, "short_question": 30, "missing_tool": 8}
MORE_ENDS = {"question": 40, "add_call": 30}
CROWDS = {"many": 0.4, "turns": 0.2, "strange": 0.6}
STAGES = [
    Stage((5e-4,), 300, warm_up=15, short_tokens=1536, end_tokens=1536),
    Stage(
        (1e-3, 6e-4), 340, full=120, weights=MORE,
        end_weights={"question": 40, "add_call": 18}, crowds={"many": 0.4, "turns": 0.2},
    ),
    Stage((4e-4, 4e-4), 135, full=10, warm_up=10, weights=MORE, end_weights=MORE_ENDS, crowds=CROWDS),
    Stage((6e-4,), 300, full=100, warm_up=15, weights=THOUGHTS, end_weights=MORE_ENDS, crowds=CROWDS),
    Stage((5e-4, 5e-4), 300, full=80, warm_up=15, weights=MORE_THOUGHTS, end_weights=MORE_ENDS, crowds=CROWDS),
    Stage((3e-4, 3e-4), 120, full=20, warm_up=10, weights=MORE_THOUGHTS, end_weights=MORE_ENDS, crowds=CROWDS),
    Stage(
        (5e-4, 5e-4), 200, full=40, warm_up=10, weights=MORE_THOUGHTS, end_weights=MORE_ENDS, crowds=CROWDS, keeps=True
    ),
]  # fmt: skip


def train_last(model: Qwen2, out: Path, seed: int) -> None:
    """`out` is the folder of the tokenizer."""
    for number, stage in enumerate(STAGES):
        start = save({name: weight.detach() for name, weight in model.named_parameters()})
        with ProcessPoolExecutor(len(stage.rates), get_context("spawn")) as pool:
            trainings = [
                pool.submit(learn, start, out, stage, seed + 10 * (number + 1) + training, rate)
                for training, rate in enumerate(stage.rates)
            ]
            found = [load(training.result()) for training in trainings]
        if stage.keeps:
            found += [load(start)] * len(found)
        with torch.no_grad():
            for name, mean in means(found):
                model.get_parameter(name).copy_(mean)


def means(found: list[Weights]) -> Iterator[tuple[str, Tensor]]:
    for name in found[0]:
        yield name, torch.stack([weights[name] for weights in found]).mean(0)


def learn(start: bytes, out: Path, stage: Stage, seed: int, rate: float) -> bytes:
    """Train from the weights `start`; return the weights at the end."""
    torch.set_num_threads(1)
    model = Qwen2()
    model.append_far()
    model.load_state_dict(load(start))
    learner = Learner(model)
    for step, (rows, behind) in enumerate(steps(out, stage, seed)):
        loss = learner.read(rows, 0.5) + learner.read(behind, 0.5, CONFIG["sliding_window"])
        learner.step(loss, stage.rate(step, rate), step, stage.steps)
    return save({name: weight.detach() for name, weight in model.named_parameters()})


def steps(out: Path, stage: Stage, seed: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """Yield what each step reads: rows of short prompts, and of the ends of long ones."""
    corpus, crowds = Corpus(seed, DIGITS), Crowds(seed, **stage.crowds)
    corpus.weigh(**stage.weights)
    crowds.weigh(**stage.end_weights)
    drawn = Drawn(AutoTokenizer.from_pretrained(out), corpus, crowds)
    short = batches(lambda _: drawn.short(COPYING), stage.steps, stage.short_tokens, seed)
    return zip(short, batches(drawn.end_of_long, stage.steps, stage.end_tokens, seed + 1), strict=True)
