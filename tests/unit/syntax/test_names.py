from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.syntax.names import ModelName


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("m", "registry.ollama.ai/library/m:latest"),
        ("m:t", "registry.ollama.ai/library/m:t"),
        ("ns/m", "registry.ollama.ai/ns/m:latest"),
        ("ns/m:t", "registry.ollama.ai/ns/m:t"),
        ("h/ns/m", "h/ns/m:latest"),
        ("localhost:5000/ns/m", "localhost:5000/ns/m:latest"),
        ("localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
        (" m \n", "registry.ollama.ai/library/m:latest"),
        ("Qwen/Qwen2.5-0.5B_x", "registry.ollama.ai/Qwen/Qwen2.5-0.5B_x:latest"),
        ("_m:_t", "registry.ollama.ai/library/_m:_t"),
        ("m" * 80, f"registry.ollama.ai/library/{'m' * 80}:latest"),
        ("h" * 350 + "/ns/m", f"{'h' * 350}/ns/m:latest"),
    ],
)
def test_what_a_name_leaves_out_is_filled_in(text: str, full: str):
    assert ModelName.parse(text).full == full


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ":", "/", "m:", ":t", "/m", "m/", "-m", ".m", "m:-t", "m@sha256", "a b", "m:t:u", "a/b/c/d", "modèle",
        "m\n:t", "m\0", "n.s/m", "-n/m", "m" * 81, "m:" + "t" * 81, "n" * 81 + "/m", "h" * 351 + "/ns/m",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str):
    with pytest.raises(BadRequest, match=r"^invalid model name$"):
        ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("m", "m:latest"),
        ("registry.ollama.ai/library/m:t", "m:t"),
        ("ns/m", "ns/m:latest"),
        ("h/library/m", "h/library/m:latest"),
    ],
)
def test_lists_leave_the_default_host_and_namespace_out(text: str, short: str):
    assert ModelName.parse(text).short == short


@pytest.mark.parametrize("text", ["demo", "DEMO:Latest", "library/demo", "Registry.Ollama.AI/library/demo:latest"])
def test_spellings_of_one_name_have_one_key(text: str):
    assert ModelName.parse(text).key == ModelName.parse("demo").key


def test_another_tag_is_another_model():
    assert ModelName.parse("demo:a").key != ModelName.parse("demo:b").key


@given(st.text() | st.text("aZ0_-.:/ "))
def test_every_text_is_a_name_or_a_bad_request(text: str):
    try:
        name = ModelName.parse(text)
    except BadRequest:
        return
    assert ModelName.parse(name.full) == ModelName.parse(name.short) == name
