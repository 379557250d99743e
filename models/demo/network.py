"""The demo model's network: Qwen2, its parameters under the names that transformers gives them."""

import math

import torch
import torch.nn.functional as F
from configuration import CONFIG, FAR_ID
from torch import Tensor, nn

KeysAndValues = tuple[Tensor, Tensor]  # each (batch, heads, length, size)
NOTHING = torch.empty(1, 0, dtype=torch.long)


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

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, before: KeysAndValues | None = None
    ) -> tuple[Tensor, KeysAndValues]:
        """Also return the keys and values. `before` are those of what stands before each row."""
        batch, length, width = x.shape
        weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]).to(x.dtype)
        bias = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]).to(x.dtype)
        qkv = F.linear(x, weight, bias).float().view(batch, length, -1, self.size).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.groups, self.groups], 1)
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (rotate(k, cos, sin), v))
        own = k, v
        if before:
            k, v = (torch.cat([t.expand(batch, -1, -1, -1), mine], 2) for t, mine in zip(before, own, strict=True))
        keys = k.shape[2]
        mask = in_window(length, keys) if keys > min(length, CONFIG["sliding_window"]) else None
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, attn_mask=mask, is_causal=mask is None)
        y = y.transpose(1, 2).reshape(batch, length, width).to(x.dtype)
        return F.linear(y, self.o_proj.weight.to(x.dtype)), own


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

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, before: KeysAndValues | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, KeysAndValues]:
        """Of the last layer only the tokens `kept` (batch, length) are used: (number kept, width)."""
        y, own = self.self_attn(self.input_layernorm(x), cos, sin, before)
        x = x + y
        x = x if kept is None else x[kept]
        return x + self.mlp(self.post_attention_layernorm(x)), own


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

    def forward(
        self, ids: Tensor, wanted: Tensor, dtype: torch.dtype, far: int = 0, opening: Tensor = NOTHING
    ) -> Tensor:
        """ids (batch, length) to float32 logits (number wanted, vocabulary): only where there is something to learn.

        Before each row stand so many FAR tokens, and then the `opening` (1, length). Both are the same for all rows,
        and computed once; the FAR tokens see nothing but each other, so that one is computed for all.
        """
        table, first = self.embed_tokens.weight, far + opening.shape[1]
        cos, sin = rotations(first + ids.shape[1], self.layers[0].self_attn.size)
        x, opened, start = (F.embedding(each, table).to(dtype) for each in (ids, opening, torch.tensor([[FAR_ID]])))
        for layer in self.layers:
            before = None
            if far:
                start, (key, value) = layer(start, cos[:1], sin[:1])
                before = rotate(key.expand(-1, -1, far, -1), cos[:far], sin[:far]), value.expand(-1, -1, far, -1)
            if first > far:
                opened, own = layer(opened, cos[far:first], sin[far:first], before)
                before = tuple(torch.cat(both, 2) for both in zip(before, own, strict=True)) if before else own
            x, _ = layer(x, cos[first:], sin[first:], before, wanted if layer is self.layers[-1] else None)
        return F.linear(self.norm(x), table.to(dtype)).float()


def in_window(queries: int, keys: int) -> Tensor:
    """Which of the keys, the last of which are the queries' own, each query sees: (queries, keys)."""
    back = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)
    return (back >= 0) & (back < CONFIG["sliding_window"])


def rotations(length: int, size: int) -> tuple[Tensor, Tensor]:
    frequencies = 1 / CONFIG["rope_theta"] ** (torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
