"""Trains the demo model from nothing: about 9 minutes on two cores (16 of CPU time), with a fixed seed.

What enters: the examples of corpus.py. What leaves, beside this file or in --out: the tokenizer, the
weights (bf16) and the configuration of a Qwen2 model that transformers and vLLM load.
"""

import argparse
import itertools
import json
import math
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from corpus import Corpus, Example, names
from phrases import CITIES, CONDITIONS, IDENTIFIERS, OPERATORS, PEOPLE
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

HERE = Path(__file__).parent
SEED = 11434
STEPS = 1400
TOKENS_PER_STEP = 4096
LEARNING_RATE = 3e-3
WARM_UP = 60

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 1280,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
TOKENIZER = {
    "tokenizer_class": "Qwen2Tokenizer",
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
    "bos_token": None,
    "add_bos_token": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 2048,
}
GENERATION = {"temperature": 0.0, "do_sample": False, "eos_token_id": [2, 0], "pad_token_id": 0}

# Qwen's spellings. The special ones are left out of decoded text; the others are text that parsers look for.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

# Qwen2's own split into words; transformers applies it to every model of this type, whatever tokenizer.json says.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# While merges are learnt, the space, and the quote before a capital, stand alone: "Paris" is then the same tokens
# in a question, in JSON and at the start of an answer, and copying is all that has to be learnt.
FINER_WORDS = (
    r"\p{Lu}+(?!\p{Ll})|\p{Lu}\p{Ll}*|\p{Ll}+|[\p{Lt}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# Only the commonest whole words get a token that includes the space before them.
GLUED_WORDS = 220


# --- tokenizer


def train_tokenizer(out: Path) -> PreTrainedTokenizerBase:
    """Byte-level BPE, so that emoji and Chinese are split over tokens; as AutoTokenizer will read it back."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence([split(FINER_WORDS), split(QWEN_WORDS), to_bytes()])
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"] - len(MARKERS) - GLUED_WORDS,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = list(tokenizer_texts())
    learner.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(glued(json.loads(learner.to_str())["model"], texts))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(QWEN_WORDS), to_bytes()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKERS])
    tokenizer.save(str(out / "tokenizer.json"))
    if out.resolve() != HERE.resolve():
        shutil.copy(HERE / "chat_template.jinja", out)
    return AutoTokenizer.from_pretrained(out)


def glued(learnt: dict[str, Any], texts: list[str]) -> models.BPE:
    """The learnt merges, and after them those of the space with the commonest words.

    Words that are to be copied (weather, names in code) stay without.
    """
    vocabulary, merges = learnt["vocab"], [tuple(merge) for merge in learnt["merges"]]
    copied = {*CONDITIONS, *IDENTIFIERS, *OPERATORS}
    counts = Counter(word for text in texts for word in re.findall(r" ([a-z]{2,})", text))
    common = (word for word, _ in counts.most_common() if word in vocabulary and word not in copied)
    for word in itertools.islice(common, GLUED_WORDS):
        vocabulary["Ġ" + word] = len(vocabulary)
        merges.append(("Ġ", word))
    return models.BPE(vocab=vocabulary, merges=merges)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def to_bytes() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def tokenizer_texts() -> Iterator[str]:
    """Answers weigh most, then questions, then tools, then names, whose pieces are to be syllables."""
    corpus = Corpus(SEED)
    for subject in corpus.subjects:
        yield from [subject.answer] * 6
        yield from [subject.topic] * 2
        yield from corpus.random.sample(subject.questions, min(8, len(subject.questions)))
        if subject.plain:
            yield subject.answer.upper()
    for _ in range(1500):
        example = corpus.draw()
        yield from (message["content"] for message in example.messages if not example.tools)
        yield from re.split(r"<\|\w+\|>", example.prompt)
        if example.tools and corpus.random.random() < 0.2:
            yield json.dumps(example.tools)
            yield example.answer
    yield from (CONDITIONS + IDENTIFIERS + list(OPERATORS)) * 40
    yield from names(CITIES) + names(PEOPLE)
    yield from (corpus.invented() for _ in range(400))


# --- model: Qwen2, its parameters under the names that transformers gives them


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, groups * self.size)
        self.v_proj = nn.Linear(width, groups * self.size)
        self.o_proj = nn.Linear(width, width, bias=False)

    @torch.no_grad()
    def look_back(self) -> None:
        """Biases that make the heads of the first group attend one, two and three tokens back from the start.

        Copying needs such a head below it; finding one takes longer than all the rest of the training.
        """
        half, sharpness, fastest = self.size // 2, 6.0, 8
        frequencies = 1 / CONFIG["rope_theta"] ** (torch.arange(0, self.size, 2) / self.size)
        frequencies = frequencies[:fastest]
        self.k_proj.bias[:fastest] = sharpness
        for head in range(self.heads // self.groups):
            bias = self.q_proj.bias[head * self.size : (head + 1) * self.size]
            bias[:fastest] = sharpness * (frequencies * (head + 1)).cos()
            bias[half : half + fastest] = -sharpness * (frequencies * (head + 1)).sin()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]).to(x.dtype)
        bias = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]).to(x.dtype)
        qkv = F.linear(x, weight, bias).float().view(batch, length, -1, self.size).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.groups, self.groups], 1)
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (rotate(k, cos, sin), v))
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(batch, length, width).to(x.dtype), self.o_proj.weight.to(x.dtype))


class MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = (layer.weight.to(x.dtype) for layer in (self.gate_proj, self.up_proj, self.down_proj))
        return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), CONFIG["rms_norm_eps"])


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = CONFIG["hidden_size"]
        self.self_attn = Attention(width, CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"])
        self.mlp = MLP(width, CONFIG["intermediate_size"])
        self.input_layernorm = Norm(width)
        self.post_attention_layernorm = Norm(width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = Norm(CONFIG["hidden_size"])
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                shrink = math.sqrt(2 * len(self.layers)) if name.endswith(("o_proj.weight", "down_proj.weight")) else 1
                nn.init.normal_(weight, std=CONFIG["initializer_range"] / shrink)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        self.layers[0].self_attn.look_back()

    def forward(self, ids: Tensor, wanted: Tensor, dtype: torch.dtype) -> Tensor:
        """ids (batch, length) to float32 logits (number wanted, vocabulary): only where there is something to learn."""
        cos, sin = rotations(ids.shape[1], self.layers[0].self_attn.size)
        x = F.embedding(ids, self.embed_tokens.weight).to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x)[wanted], self.embed_tokens.weight.to(dtype)).float()


def rotations(length: int, size: int) -> tuple[Tensor, Tensor]:
    frequencies = 1 / CONFIG["rope_theta"] ** (torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


# --- training


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


def save_configuration(out: Path) -> None:
    files = {"config.json": CONFIG, "generation_config.json": GENERATION, "tokenizer_config.json": TOKENIZER}
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n")


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
    tokenizer = train_tokenizer(arguments.out)
    model = train(tokenizer, arguments.steps)
    save_weights(model, arguments.out)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters in {arguments.out}")


if __name__ == "__main__":
    main()
