"""Trains the demo model from nothing: about 9 minutes on two cores (16 of CPU time), with a fixed seed.

What enters: the examples of corpus.py. What leaves, beside this file or in --out: the tokenizer, the
weights (bf16) and the configuration of a Qwen2 model that transformers and vLLM load.
"""

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from configuration import CONFIG, save_configuration
from corpus import Corpus
from examples import Example
from network import Qwen2
from safetensors.torch import save_file
from tokenizer import train_tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

HERE = Path(__file__).parent
SEED = 11434
STEPS = 1400
TOKENS_PER_STEP = 4096
LEARNING_RATE = 3e-3
WARM_UP = 60


def encode(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[list[int], list[int]]:
    """The token ids of prompt and answer, and the target at each of them: the next token, or -100."""
    prompt, end = example.prompt, "<|endoftext|>"
    if example.messages:
        end = "<|im_end|>"
        prompt = tokenizer.apply_chat_template(
            example.messages,
            tools=example.tools or None,
            add_generation_prompt=True,
            enable_thinking=example.thinking,
            tokenize=False,
        )
    read = tokenizer.encode(prompt)
    ids = read + tokenizer.encode(example.answer + end)
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


def batches(tokenizer: PreTrainedTokenizerBase, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of ids and targets (-100: nothing to learn), about TOKENS_PER_STEP tokens of like length each."""
    corpus, shuffle, done = Corpus(SEED + 1), random.Random(SEED), 0
    while done < steps:
        copying = max(0.05, 0.6 - 2 * done / steps)  # much at first: without copying, names and tools teach nothing
        drawn = sorted((encode(tokenizer, corpus.draw(copying)) for _ in range(1600)), key=lambda pair: len(pair[0]))
        pool: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in drawn:
            if len(pair[0]) * (len(pool[-1]) + 1) > TOKENS_PER_STEP:
                pool.append([])
            pool[-1].append(pair)
        shuffle.shuffle(pool)
        for rows in pool[: steps - done]:
            longest = max(len(ids) for ids, _ in rows)
            ids = torch.full((len(rows), longest), CONFIG["pad_token_id"])
            targets = torch.full((len(rows), longest), -100)
            for row, (tokens, wanted) in enumerate(rows):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                targets[row, : len(tokens)] = torch.tensor(wanted)
            yield ids, targets
        done += len(pool)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    return LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP))))


def train(tokenizer: PreTrainedTokenizerBase, steps: int) -> Qwen2:
    """Muon for the matrices of the layers, AdamW for the rest."""
    model = Qwen2()
    matrices = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "layers" in name]
    others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "layers" not in name]
    optimizers = [
        torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]
    dtype = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    began, mean = time.perf_counter(), 0.0
    for step, (ids, targets) in enumerate(itertools.islice(batches(tokenizer, steps), steps)):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps)
        wanted = targets >= 0
        loss = F.cross_entropy(model(ids, wanted, dtype), targets[wanted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.item() if step == 0 else 0.97 * mean + 0.03 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {mean:.4f}  {time.perf_counter() - began:.0f} s", flush=True)
    return model


def save_weights(model: Qwen2, out: Path) -> None:
    weights = {f"model.{name}": weight.detach().to(torch.bfloat16) for name, weight in model.named_parameters()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model from nothing.")
    parser.add_argument("--out", type=Path, default=HERE, help="where the model files go (default: beside this script)")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    save_configuration(arguments.out)
    tokenizer = train_tokenizer(arguments.out, SEED)
    model = train(tokenizer, arguments.steps)
    save_weights(model, arguments.out)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters in {arguments.out}")


if __name__ == "__main__":
    main()
