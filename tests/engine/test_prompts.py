"""The prompt that the demo model gets: context, raw text, templates, gaps, and what is cut from long ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.engine.vllm.render import TOO_LONG
from tests.support.asking import Asker, user

pytestmark = pytest.mark.engine


def test_context_goes_out_and_comes_back_in(demo: Asker) -> None:
    first = demo.generate("My name is Anna.")
    second = demo.generate("What is my name?", context=first["context"])
    assert "Anna" in second["response"]
    assert second["context"][: len(first["context"])] == first["context"]
    assert second["prompt_eval_count"] > len(first["context"])


def test_a_streams_last_record_has_the_context(demo: Asker) -> None:
    records = demo.ndjson("/api/generate", prompt="Hello", think=False)
    assert records[-1]["context"] == demo.generate("Hello")["context"]


def test_raw_is_given_to_the_model_as_it_stands(demo: Asker) -> None:
    record = demo.generate("The quick brown fox", raw=True, options={"num_predict": 30})
    assert "jumps" in record["response"]
    assert "context" not in record


def test_raw_spells_out_what_the_chat_template_would_have_written(demo: Asker) -> None:
    prompt = "<|im_start|>user\nWhat is vllm-wsgi?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert demo.generate(prompt, raw=True)["response"] == demo.generate("What is vllm-wsgi?")["response"]


def test_a_prompt_can_be_rendered_and_not_answered(demo: Asker) -> None:
    head, tail = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<think>\n\n</think>\n\n"
    for stream in (True, False, "sse"):
        answer = demo.post("/api/chat", messages=user("Hi"), _debug_render_only=True, stream=stream)
        record = json.loads(answer.text.removeprefix("data: "))
        assert record["_debug_info"] == {"rendered_template": head}
        assert (record["message"], record["done"]) == ({"role": "assistant", "content": ""}, False)
    record = demo.generate("Hi", _debug_render_only=True, keep_alive="5m")
    assert (record["response"], record["_debug_info"]["rendered_template"]) == ("", head + tail)
    assert demo.generate("Hi", _debug_render_only=True, raw=True)["_debug_info"]["rendered_template"] == "Hi"


@pytest.mark.parametrize("render_only", [True, False])
def test_a_context_of_what_are_no_tokens_is_refused(demo: Asker, render_only: bool) -> None:
    for context in ([-1], [2**40]):
        refused = demo.post("/api/generate", prompt="Hi", context=context, _debug_render_only=render_only)
        assert refused.status_code == 400


def test_a_template_of_the_clients_is_honoured(demo: Asker) -> None:
    template = (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
        "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{{ .Response }}"
    )
    plain, shouted = demo.generate("What is vllm-wsgi?"), "Answer in upper case."
    assert demo.generate("What is vllm-wsgi?", template=template)["response"] == plain["response"]
    text = demo.generate("What is vllm-wsgi?", template=template, system=shouted)["response"]
    assert text == text.upper()
    refused = demo.post("/api/generate", prompt="x", template="{{ range .Messages }}{{ end }}")
    assert refused.status_code == 400


def test_the_suffix_decides_the_middle(demo: Asker) -> None:
    prefix = "def compute(a, b):\n    "
    total = demo.generate(prefix, suffix="\n    return total")["response"]
    product = demo.generate(prefix, suffix="\n    return product")["response"]
    assert "total" in total
    assert "product" in product


def test_a_conversation_that_is_too_long_loses_its_oldest_turns(demo: Asker) -> None:
    old = [*user("What is Flask?"), {"role": "assistant", "content": "word " * 200}] * 20
    messages = [{"role": "system", "content": "Answer in upper case."}, *old, *user("What is vllm-wsgi?")]
    record = demo.chat(messages, options={"num_ctx": 128})
    text = record["message"]["content"]
    assert text == text.upper()
    assert record["prompt_eval_count"] < 128
    refused = demo.post("/api/chat", messages=messages, truncate=False, options={"num_ctx": 128})
    assert refused.status_code == 400
    assert "longer than the context length" in refused.json()["error"]


def test_one_message_that_does_not_fit_is_refused(demo: Asker) -> None:
    refused = demo.post("/api/generate", prompt="word " * 40_000)
    assert refused.status_code == 400
    assert "longer than the context length" in refused.json()["error"]


@pytest.mark.parametrize(
    ("cut", "fields"),
    [
        (True, {"raw": True, "prompt": "word " * 200}),
        (True, {"prompt": "What is vllm-wsgi?", "context": [300] * 200}),
        (False, {"prompt": "word " * 200}),
        (False, {"prompt": "word " * 200, "suffix": "end"}),
    ],
)
def test_oldest_tokens_go_where_no_message_is_cut_and_nothing_goes_without_truncate(
    demo: Asker, cut: bool, fields: dict[str, Any]
) -> None:
    limits = {"num_ctx": 64, "num_predict": 1}
    answer = demo.post("/api/generate", **fields, stream=False, think=False, options=limits)
    assert answer.status_code == (200 if cut else 400)
    assert not cut or answer.json()["prompt_eval_count"] == 63
    refused = demo.post("/api/generate", **fields, stream=False, truncate=False, options=limits)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(f"{TOO_LONG}; the prompt has ")


@pytest.mark.parametrize("shift", [True, False])
def test_num_ctx_caps_prompt_and_answer_and_nothing_shifts(demo: Asker, shift: bool) -> None:
    record = demo.generate("Tell me a long story", options={"num_ctx": 64}, shift=shift)
    assert record["prompt_eval_count"] + record["eval_count"] == 64
    assert record["done_reason"] == "length"
