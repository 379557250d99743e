"""One step of the training."""

import math
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from muon import Muon, add_over_processes
from network import Qwen2
from rows import Row, padded
from torch.optim import Optimizer


def learning_rate(step: int, steps: int, highest: float, warm_up: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))))


class Learner:
    """A process's copy of the model and its optimizers: Muon for the matrices of the layers, AdamW for the rest."""

    def __init__(self, model: Qwen2, optimizers: Sequence[Optimizer] = ()) -> None:
        self.model, self.began, self.mean = model, time.perf_counter(), 0.0
        self.dtype = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
        matrices = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "layers" in name]
        others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "layers" not in name]
        self.optimizers = optimizers or [
            Muon(matrices, self.dtype, weight_decay=0.05),
            torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
        ]

    def read(self, rows: list[Row], share: float = 1.0, far: int = 0, opening: Sequence[int] = ()) -> float:
        """Add the gradients of the rows, which count `share`, behind so many FAR tokens and an opening.

        Return their part of the loss.
        """
        ids, targets = padded(rows)
        wanted, first = targets >= 0, torch.tensor([opening], dtype=torch.long)
        loss = share * F.cross_entropy(self.model(ids, wanted, self.dtype, far, first), targets[wanted])
        loss.backward()
        return loss.item()

    def step(self, loss: float, rate: float, step: int, steps: int) -> None:
        """Use the mean of the processes' gradients."""
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        add_over_processes(gradients)
        for gradient in gradients:
            gradient /= dist.get_world_size()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.mean = loss if step == 0 else 0.97 * self.mean + 0.03 * loss
        if dist.get_rank() == 0 and (step % 50 == 0 or step == steps - 1):
            print(f"step {step:5d}  loss {self.mean:.4f}  {time.perf_counter() - self.began:.0f} s", flush=True)
