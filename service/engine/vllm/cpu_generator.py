"""The random numbers of a seeded request on a CPU, of which vLLM takes some back.

vLLM draws a number behind each piece of a prompt, and then takes it back by moving the generator's offset
(`_bookkeeping_sync`). torch's CPU generator has no offset, and the error ended vLLM's core with all its requests.
"""

from __future__ import annotations

import torch


def draw(generator: torch.Generator) -> None:
    """Advance by what one token takes: as vLLM's CPU sampler (`TopKTopPSampler.forward_cpu`) draws."""
    torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long)


class CpuGenerator(torch.Generator):  # type: ignore[misc]
    """A generator that goes back to where it was behind the last token.

    It continues where `begun` stands, behind the tokens in `output_token_ids`, to which vLLM adds each token.
    """

    def __new__(cls, begun: torch.Generator, output_token_ids: list[int]) -> CpuGenerator:
        made: CpuGenerator = super().__new__(cls)
        return made

    def __init__(self, begun: torch.Generator, output_token_ids: list[int]) -> None:
        super().__init__()
        self._first = begun.get_state()
        self._output_token_ids = output_token_ids
        self._begun_at = len(output_token_ids)
        self.set_state(self._first)

    def get_offset(self) -> int:
        """Return a number that `set_offset` takes no notice of: a CPU generator has no offset."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Take back what was drawn since the last token."""
        self.set_state(self._first)
        for _ in self._output_token_ids[self._begun_at :]:
            draw(self)
