"""Trains the demo model from nothing, with fixed seeds, in two processes of one thread each.

What enters: the examples of corpus.py and crowds.py. What leaves, beside this file or in --out: the tokenizer, the
weights (bf16) and the configuration of a Qwen2 model that transformers and vLLM load.
"""

import argparse
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from configuration import CONFIG, FAR_ID, save_configuration
from corpus import Corpus
from crowds import Crowds
from learner import Learner, learning_rate
from network import Qwen2
from rows import Drawn, batches
from tokenizer import train_tokenizer
from transformers import AutoTokenizer
from weights import save_weights

HERE = Path(__file__).parent
SEED = 11434
PROCESSES = 2

# In each step each process reads short prompts, and after SHORT_STEPS also conversations behind a crowd.
STEPS = 1450
SHORT_STEPS = 260
TOKENS = 1664  # of short prompts
CONVERSATIONS = 6
FAR_CONVERSATIONS = 4
SHARE = 0.4  # of the conversations in the gradient
LEARNING_RATE = 3e-3
WARM_UP = 60

# After these steps only the FAR token learns, until behind a window of such tokens all is as without them. From then
# on crowds stand behind them.
NEAR_STEPS = 1335
FAR_STEPS = 120
FAR_LEARNING_RATE = 4e-2
FAR_TOKENS = 768


def train(out: Path, steps: int) -> None:
    """Train the model, with the tokenizer that is in `out`, and save it there."""
    model = Qwen2()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(learn, (model, out, Path(folder) / "meeting", steps), PROCESSES)
    save_weights(model, out)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters in {out}")


def learn(process: int, model: Qwen2, out: Path, meeting: Path, steps: int) -> None:
    """Train one of the copies of the model, which stay equal. The first is copied to `model`, in shared memory."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=process, world_size=PROCESSES)
    copy = Qwen2()
    copy.load_state_dict(model.state_dict())
    seed = SEED + 1 + process
    drawn = Drawn(AutoTokenizer.from_pretrained(out), Corpus(seed), Crowds(seed))
    learner, far = Learner(copy), 0
    near = NEAR_STEPS * steps // STEPS
    for step, rows in enumerate(batches(drawn.short, steps, TOKENS, seed)):
        if step == near:
            learn_far(copy, drawn, seed)
            far = CONFIG["sliding_window"]
        if step < SHORT_STEPS:
            loss = learner.read(rows)
        else:
            loss = learner.read(rows, 1 - SHARE)
            opening, rows = drawn.crowd(FAR_CONVERSATIONS if far else CONVERSATIONS)
            loss += learner.read(rows, SHARE, far, opening)
        learner.step(loss, learning_rate(step, steps, LEARNING_RATE, WARM_UP), step, steps)
    dist.destroy_process_group()
    if process == 0:
        model.load_state_dict(copy.state_dict())


def learn_far(model: Qwen2, drawn: Drawn, seed: int) -> None:
    """Train the FAR token alone, on short prompts behind a window of such tokens."""
    table = model.embed_tokens.weight
    learner = Learner(model, [torch.optim.Adam([table], betas=(0.9, 0.98))])
    others = torch.ones_like(table)
    others[FAR_ID] = 0
    model.requires_grad_(False)
    table.requires_grad_(True)
    for step, rows in enumerate(batches(drawn.short, FAR_STEPS, FAR_TOKENS, seed)):
        loss = learner.read(rows, far=CONFIG["sliding_window"])
        table.grad.masked_fill_(others.bool(), 0)
        learner.step(loss, learning_rate(step, FAR_STEPS, FAR_LEARNING_RATE, 1), step, FAR_STEPS)
    model.requires_grad_(True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model from nothing.")
    parser.add_argument("--out", type=Path, default=HERE, help="where the model files go (default: beside this script)")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer steps than the recipe's, to try a change")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    save_configuration(arguments.out)
    train_tokenizer(arguments.out, SEED)
    train(arguments.out, arguments.steps)


if __name__ == "__main__":
    main()
