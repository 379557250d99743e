"""A generator of random numbers on the CPU whose last draw can be taken back, as vLLM expects of every generator."""

from __future__ import annotations

import torch

# By how much vLLM sets a generator's offset back to take back a draw (`gpu_model_runner.py`, `_bookkeeping_sync`).
DRAW = 4


class RewindingGenerator(torch.Generator):  # type: ignore[misc]
    """A seeded request's generator. `tokens` are the request's output tokens, for each of which one number was drawn.

    vLLM takes a draw back when a step has processed only part of a prompt. torch's own CPU generator has no offset, and
    the error ended the engine.
    """

    tokens: list[int]

    def get_offset(self) -> int:
        return DRAW

    def set_offset(self, offset: int) -> None:
        """Take back all draws but those of the tokens."""
        self.manual_seed(self.initial_seed())
        self.advance()

    def advance(self) -> None:
        """Draw as vLLM's CPU sampler does for each token (`TopKTopPSampler.forward_cpu`)."""
        for _ in self.tokens:
            torch.randint(0, 2**31, (1,), generator=self, dtype=torch.long)


def rewinding(generator: torch.Generator, tokens: list[int]) -> RewindingGenerator:
    """Return a generator with the same seed that has drawn a number for each of the tokens."""
    made = RewindingGenerator("cpu")
    made.manual_seed(generator.initial_seed())
    made.tokens = tokens
    made.advance()
    return made
