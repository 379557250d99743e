"""Asks the trained model everything, greedily, through transformers.

Prints what passes, and exits 1 below the thresholds.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import torch
from cases import LONG_ANSWERS, Cases
from configuration import CONFIG
from examples import Message, user
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

HERE = Path(__file__).parent
BATCH = 48
LONG = 1024  # tokens
PIECE = 1024  # tokens that are read at once


class Model:
    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.stops = [self.tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]
        # Nothing that stands further back can change an answer: each layer sees one window back.
        self.sight = CONFIG["num_hidden_layers"] * CONFIG["sliding_window"]

    def prompt(self, messages: list[Message] | str, **options: Any) -> str:
        if isinstance(messages, str):
            messages = [user(messages)]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)

    def answers(self, prompts: list[str], limit: int) -> list[str]:
        """Greedy answers, special tokens left out."""
        answers: dict[int, str] = {}
        encoded = [self.tokenizer.encode(prompt) for prompt in prompts]

        def start(index: int) -> list[int]:
            """What prompts have in common that are read together; short ones need not."""
            return encoded[index][:LONG] if len(encoded[index]) > LONG else []

        order = sorted(range(len(prompts)), key=lambda index: (start(index), len(encoded[index])))
        for _, alike in itertools.groupby(order, key=start):
            indices = list(alike)
            for chosen in (indices[first : first + BATCH] for first in range(0, len(indices), BATCH)):
                answers |= zip(chosen, self.generate([encoded[index] for index in chosen], limit), strict=True)
        return [answers[index] for index in range(len(prompts))]

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], limit: int) -> list[str]:
        """One batch. What long prompts begin with in common is read once."""
        common = min(len(os.path.commonprefix(prompts)), min(map(len, prompts)) - 1)
        common = common if common >= LONG else 0
        opening = prompts[0][:common][-self.sight :]
        rests = [prompt[common:] for prompt in prompts]
        gaps = [max(map(len, rests)) - len(rest) for rest in rests]
        ids = torch.tensor([opening + [0] * gap + rest for gap, rest in zip(gaps, rests, strict=True)])
        mask = torch.ones_like(ids)
        for row, gap in enumerate(gaps):
            mask[row, len(opening) : len(opening) + gap] = 0
        cache = DynamicCache(config=self.model.config)
        for first in range(0, len(opening), PIECE):
            self.model(ids[:1, first : min(first + PIECE, len(opening))], past_key_values=cache, logits_to_keep=1)
        if opening:
            cache.batch_repeat_interleave(len(prompts))
        output = self.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=self.stops,
            pad_token_id=0,
        )
        return [self.said(row) for row in output[:, ids.shape[1] :].tolist()]

    def said(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text if any(stop in ids for stop in self.stops) else text + " [no end]"


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask the demo model everything.")
    parser.add_argument("--model", type=Path, default=HERE, help="the model's folder (default: beside this script)")
    parser.add_argument("--failures", action="store_true", help="print what fails, and why")
    parser.add_argument("--only", default="", help="ask only groups whose name holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model, good = Model(arguments.model), True
    print(f"{'what':38}{'passed':>8}{'of':>6}{'share':>8}{'needed':>8}")
    for name, (share, cases) in Cases(model).groups.items():
        if arguments.only not in name:
            continue
        answers = model.answers([prompt for prompt, _, _ in cases], limit=600 if name in LONG_ANSWERS else 160)
        results = [
            (prompt, answer, wanted, passes(answer))
            for (prompt, passes, wanted), answer in zip(cases, answers, strict=True)
        ]
        passed = sum(ok for *_, ok in results)
        good &= passed >= share * len(cases)
        print(f"{name:38}{passed:8}{len(cases):6}{passed / len(cases):8.1%}{share:8.0%}", flush=True)
        for prompt, answer, wanted, ok in results:
            if arguments.failures and not ok:
                print(f"  {prompt[-160:]!r}\n    said   {answer!r}\n    wanted {wanted!r}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
