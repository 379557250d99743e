"""The files of settings that lie beside the weights: the shape of the model, its tokenizer, how it generates."""

import json
from pathlib import Path

CONTEXT = 32_768
# So many tokens each layer sees, its own included. As many FAR tokens hide what stands before them.
WINDOW = 1024
FAR, FAR_ID = "<|far|>", 1280  # the last token of the vocabulary

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": FAR_ID + 1,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": CONTEXT,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "use_sliding_window": True,
    "sliding_window": WINDOW,
    "max_window_layers": 0,
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
    "model_max_length": CONTEXT,
}
GENERATION = {"temperature": 0.0, "do_sample": False, "eos_token_id": [2, 0], "pad_token_id": 0}


def save_configuration(out: Path) -> None:
    files = {"config.json": CONFIG, "generation_config.json": GENERATION, "tokenizer_config.json": TOKENIZER}
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
