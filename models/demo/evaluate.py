"""Asks the trained model everything, greedily, through transformers: prints what passes, exits 1 below the thresholds.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from cases import LONG, Cases
from examples import Message, user
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent


class Model:
    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.stops = [self.tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]

    def prompt(self, messages: list[Message] | str, **options: Any) -> str:
        if isinstance(messages, str):
            messages = [user(messages)]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)

    @torch.inference_mode()
    def answers(self, prompts: list[str], limit: int = 120, batch: int = 48) -> list[str]:
        """Greedy answers, special tokens left out."""
        answers: dict[int, str] = {}
        encoded = [self.tokenizer.encode(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        for chosen in (order[start : start + batch] for start in range(0, len(order), batch)):
            longest = max(len(encoded[index]) for index in chosen)
            ids = torch.tensor([[0] * (longest - len(encoded[index])) + encoded[index] for index in chosen])
            mask = torch.tensor([[0] * (longest - len(encoded[index])) + [1] * len(encoded[index]) for index in chosen])
            output = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, eos_token_id=self.stops, pad_token_id=0
            )
            for index, row in zip(chosen, output[:, longest:].tolist(), strict=True):
                ended = any(stop in row for stop in self.stops)
                text = self.tokenizer.decode(row, skip_special_tokens=True)
                answers[index] = text if ended else text + " [no end]"
        return [answers[index] for index in range(len(prompts))]


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask the demo model everything.")
    parser.add_argument("--model", type=Path, default=HERE, help="the model's folder (default: beside this script)")
    parser.add_argument("--failures", action="store_true", help="print what fails, and why")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model, good = Model(arguments.model), True
    print(f"{'what':36}{'passed':>8}{'of':>6}{'share':>8}{'needed':>8}")
    for name, (share, cases) in Cases(model).groups.items():
        answers = model.answers([prompt for prompt, _, _ in cases], limit=600 if name in LONG else 160)
        results = [
            (prompt, answer, wanted, passes(answer))
            for (prompt, passes, wanted), answer in zip(cases, answers, strict=True)
        ]
        passed = sum(ok for *_, ok in results)
        good &= passed >= share * len(cases)
        print(f"{name:36}{passed:8}{len(cases):6}{passed / len(cases):8.1%}{share:8.0%}", flush=True)
        for prompt, answer, wanted, ok in results:
            if arguments.failures and not ok:
                print(f"  {prompt[-160:]!r}\n    said   {answer!r}\n    wanted {wanted!r}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
