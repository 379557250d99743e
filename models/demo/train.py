"""Trains the demo model from nothing, with a fixed seed: first short prompts, then also the ends of long ones.

What enters: the examples of corpus.py and crowds.py. What leaves, beside this file or in --out: the tokenizer, the
weights (bf16) and the configuration of a Qwen2 model that transformers and vLLM load.
"""

import argparse
from pathlib import Path

import torch
from configuration import CONFIG, FAR_ID, save_configuration
from corpus import Corpus
from crowds import Crowds
from last_part import train_last
from learner import Learner, learning_rate
from network import Qwen2
from rows import Drawn, batches
from tokenizer import train_tokenizer
from transformers import PreTrainedTokenizerBase
from weights import load_weights, save_weights

HERE = Path(__file__).parent
SEED = 11434
STEPS = 1400
TOKENS_PER_STEP = 4096
LEARNING_RATE = 3e-3
WARM_UP = 60

# The second part: only the FAR token learns, until behind a window of such tokens all is as without them.
FAR_STEPS = 400
FAR_LEARNING_RATE = 4e-2
FAR_TOKENS_PER_STEP = 1024


def train(model: Qwen2, tokenizer: PreTrainedTokenizerBase, steps: int) -> None:
    """The first part: short prompts."""
    learner, drawn = Learner(model), Drawn(tokenizer, Corpus(SEED + 1), Crowds(SEED + 1))
    for step, rows in enumerate(batches(drawn.short, steps, TOKENS_PER_STEP, SEED)):
        loss = learner.read(rows)
        learner.step(loss, learning_rate(step, steps, LEARNING_RATE, WARM_UP), step, steps)


def train_far(model: Qwen2, tokenizer: PreTrainedTokenizerBase, steps: int) -> None:
    """The second part: the FAR token alone."""
    learner, drawn = Learner(model), Drawn(tokenizer, Corpus(SEED + 2), Crowds(SEED + 2))
    table = model.embed_tokens.weight
    learner.optimizers = [torch.optim.Adam([table], betas=(0.9, 0.98))]
    others = torch.ones_like(table)
    others[FAR_ID] = 0
    for step, rows in enumerate(batches(drawn.short, steps, FAR_TOKENS_PER_STEP, SEED)):
        model.requires_grad_(False)
        table.requires_grad_(True)
        loss = learner.read(rows, far=CONFIG["sliding_window"])
        table.grad.masked_fill_(others.bool(), 0)
        learner.step(loss, learning_rate(step, steps, FAR_LEARNING_RATE, 1), step, steps)
    model.requires_grad_(True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model from nothing.")
    parser.add_argument("--out", type=Path, default=HERE, help="where the model files go (default: beside this script)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the first part")
    parser.add_argument("--far-steps", type=int, default=FAR_STEPS, help="of the second part")
    parser.add_argument("--after", type=Path, help="weights of the first part, or of both, which is then left out")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    save_configuration(arguments.out)
    tokenizer = train_tokenizer(arguments.out, SEED)
    model = Qwen2()
    if not arguments.after:
        train(model, tokenizer, arguments.steps)
    model.append_far()
    if arguments.after:
        load_weights(model, arguments.after)
    train_far(model, tokenizer, arguments.far_steps)
    train_last(model, arguments.out, SEED)
    save_weights(model, arguments.out)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters in {arguments.out}")


if __name__ == "__main__":
    main()
