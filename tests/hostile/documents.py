"""JSON documents with anything in them, under keys that the files of models have."""

from __future__ import annotations

from hypothesis import strategies as st

keys = st.sampled_from(
    [
        "model_type", "text_config", "max_position_embeddings", "hidden_size", "num_hidden_layers", "vocab_size",
        "num_attention_heads", "num_key_value_heads", "architectures", "quantization_config", "quant_method", "dtype",
        "torch_dtype", "vision_config", "auto_map", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
        "max_new_tokens", "model", "vocab", "added_tokens", "id", "content", "chat_template", "image_processor",
        "image_processor_type", "type", "r", "shape", "data_offsets", "__metadata__",
    ]
) | st.text(max_size=4)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=8)
    | st.sampled_from(["BF16", "qwen2", "Qwen2ForCausalLM", "awq"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(keys, children, max_size=5),
    max_leaves=25,
)
documents = st.dictionaries(keys, values, max_size=8) | values
