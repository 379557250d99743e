"""A model that sees, a small Idefics3 with random weights on the demo model's tokenizer, and images for it."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.support.servers import ROOT

SPECIAL = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
# An image is four tokens between three that mark it.
IMAGE_TOKENS, AROUND = 4, 3
CONTEXT, MOST_IMAGES, MOST_PIXELS = 256, 3, 1_000_000
# Of a system message it writes the texts alone.
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- for part in message.content %}
{{- part.text if part.type == 'text' else '<image>' if message.role != 'system' else '' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
"""


def picture(color: str, size: tuple[int, int] = (20, 20), format: str = "PNG") -> str:
    file = BytesIO()
    Image.new("RGB", size, color).save(file, format)
    return base64.b64encode(file.getvalue()).decode()


RED, BLUE = picture("red"), picture("blue")
NO_IMAGE, CUT = base64.b64encode(b"GIF89a, or so it says").decode(), RED[: len(RED) // 8 * 4]


def make_model(directory: Path) -> None:
    import torch
    from transformers import (
        AutoTokenizer,
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "demo")
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    edge = {"longest_edge": 32}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=TEMPLATE)
    processor.save_pretrained(directory)
    # With the usual 0.02 the weights are so small that everything looks alike.
    small = {"num_hidden_layers": 1, "num_attention_heads": 1, "initializer_range": 0.3}
    text = small | {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_key_value_heads": 1,
        "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    eyes = small | {"hidden_size": 32, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
    config = Idefics3Config(
        text_config=text, vision_config=eyes, scale_factor=2, pad_token_id=0, initializer_range=0.3,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(directory)
