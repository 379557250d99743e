"""Judges most cases of evaluate.py in minutes: is each token of the wanted answer the likeliest behind those before it?

For an answer that has to be equal to a text, this is what asking greedily finds out. Other cases are left out. Of a long
prompt, only what stands behind the FAR tokens is read.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from cases import Cases
from configuration import CONFIG, FAR
from examples import Message, user
from judging import Case
from network import Qwen2
from rows import Row, padded
from transformers import AutoTokenizer
from weights import load_weights

HERE = Path(__file__).parent
BATCH = 24


class Model:
    def __init__(self, path: Path) -> None:
        self.tokenizer, self.network = AutoTokenizer.from_pretrained(path), Qwen2()
        load_weights(self.network, path / "model.safetensors")

    def prompt(self, messages: list[Message] | str, **options: Any) -> str:
        if isinstance(messages, str):
            messages = [user(messages)]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)

    def row(self, prompt: str, wanted: str) -> Row:
        read = self.tokenizer.encode(prompt.rpartition(FAR)[2])
        answer = [*self.tokenizer.encode(wanted), CONFIG["eos_token_id"]]
        return read + answer, [-100] * (len(read) - 1) + answer + [-100]

    @torch.inference_mode()
    def passed(self, cases: list[Case]) -> int:
        rows = sorted(((FAR in prompt, self.row(prompt, wanted)) for prompt, _, wanted in cases), key=self.likeness)
        good = 0
        while rows:
            far = rows[0][0]
            batch = [row for is_far, row in rows[:BATCH] if is_far == far]
            rows = rows[len(batch) :]
            ids, targets = padded(batch)
            wanted = targets >= 0
            likeliest = torch.full_like(targets, -100)
            logits = self.network(ids, wanted, torch.float32, CONFIG["sliding_window"] if far else 0)
            likeliest[wanted] = logits.argmax(-1)
            good += int((likeliest == targets).all(1).sum())
        return good

    @staticmethod
    def likeness(row: tuple[bool, Row]) -> tuple[bool, int]:
        return row[0], len(row[1][0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge most cases of evaluate.py in minutes.")
    parser.add_argument("--model", type=Path, default=HERE, help="the model's folder (default: beside this script)")
    parser.add_argument("--only", default="", help="only groups whose name holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = Model(arguments.model)
    for name, (share, cases) in Cases(model).groups.items():
        # A judge that does not accept what it names as wanted does not ask for one text.
        if arguments.only in name and all(passes(wanted) for _, passes, wanted in cases):
            good = model.passed(cases)
            print(f"{name:38}{good:8}{len(cases):6}{good / len(cases):8.1%}{share:8.0%}", flush=True)


if __name__ == "__main__":
    main()
