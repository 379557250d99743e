"""Muon: the momentum of a matrix, made orthogonal, is the step.

As torch.optim.Muon with `match_rms_adamw`, but in the type that the CPU has arithmetic for: torch's always computes in
bfloat16, which takes most of the time of a training on a CPU without it. And the processes share the work: each makes
the steps of some of the matrices.
"""

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

# Keller Jordan's polynomial (https://github.com/KellerJordan/Muon), five times.
COEFFICIENTS, STEPS = (3.4445, -4.7750, 2.0315), 5


class Muon(Optimizer):
    """For matrices only."""

    def __init__(
        self, matrices: Iterable[Tensor], dtype: torch.dtype, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            matrices = group["params"]
            updates = [torch.zeros_like(matrix) for matrix in matrices]
            for index, (matrix, update) in enumerate(zip(matrices, updates, strict=True)):
                if index % dist.get_world_size() == dist.get_rank():
                    update.copy_(self.update(matrix, group["momentum"]))
            add_over_processes(updates)
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(update, alpha=group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))

    def update(self, matrix: Tensor, momentum: float) -> Tensor:
        """Return the step of a matrix, before the learning rate."""
        if not self.state[matrix]:
            self.state[matrix]["mean"] = torch.zeros_like(matrix)
        mean = self.state[matrix]["mean"].lerp_(matrix.grad, 1 - momentum)
        return orthogonal(matrix.grad.lerp(mean, momentum).to(self.dtype))


def add_over_processes(tensors: list[Tensor]) -> None:
    """Put into each tensor the sum of all processes' tensors."""
    together = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(together)
    for tensor, total in zip(tensors, together.split([each.numel() for each in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return the matrix with all its singular values near 1."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    first, third, fifth = COEFFICIENTS
    matrix = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = matrix @ matrix.T
        gram = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        matrix = torch.addmm(matrix, gram, matrix, beta=first)
    return matrix
