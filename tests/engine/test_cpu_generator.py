from __future__ import annotations

import inspect

import torch
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from service.engine.vllm.cpu_generator import CpuGenerator


def seeded() -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed(5)
    return generator


def number(generator: torch.Generator) -> int:
    return int(torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long))


def take_back(generator: torch.Generator) -> None:
    """As vLLM does behind a piece of a prompt."""
    generator.set_offset(generator.get_offset() - 4)


def test_vllm_takes_a_number_back_in_this_way():
    assert "gen.set_offset(gen.get_offset() - 4)" in inspect.getsource(GPUModelRunner._bookkeeping_sync)


def test_numbers_that_are_taken_back_come_again():
    plain = seeded()
    tokens: list[int] = []
    expected = [number(plain) for _ in range(4)]
    generator = CpuGenerator(seeded(), tokens)
    found = []
    for pieces in (3, 0, 2, 1):
        for _ in range(pieces):
            number(generator)
            take_back(generator)
        found.append(number(generator))
        tokens.append(1)
    assert found == expected


def test_a_generator_continues_where_another_one_stands():
    begun, tokens = seeded(), [1, 2]
    number(begun)
    number(begun)
    generator = CpuGenerator(begun, tokens)
    number(generator)
    take_back(generator)
    assert number(generator) == number(begun)
