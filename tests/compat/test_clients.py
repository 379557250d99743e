"""Other people's clients against the real engine, each in an environment of its own; embeddings against a scripted one.

A client's program in clients/ or npm/ does what its users do and prints what it read; here that is compared.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.support.servers import ROOT, Server, clean_environment

pytestmark = pytest.mark.engine

HERE = ROOT / "tests" / "compat"
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
INSTALL = "is not installed: `make install-dev` does it"
NOT_FOUND = "model 'other' not found"
WEATHER_IN_PARIS = {"name": "get_current_weather", "args": {"city": "Paris"}}


def read(*command: str) -> dict[str, Any]:
    """The JSON on the last line that the program prints; before it some print advertisements."""
    ended = subprocess.run(command, env=clean_environment({}), capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def read_python(program: str, *urls: str) -> dict[str, Any]:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.parent.parent.name} {INSTALL}")
    return read(str(PYTHON), str(HERE / "clients" / program), *urls)


@pytest.fixture(scope="module")
def javascript(engine_server: Server, server: Server) -> dict[str, Any]:
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    if not (HERE / "npm" / "node_modules").exists():
        pytest.skip(f"the npm package ollama {INSTALL}, where there is npm")
    return read("node", str(HERE / "npm" / "ask.mjs"), engine_server.url, server.url)


@pytest.fixture(scope="module")
def langchain(engine_server: Server, server: Server) -> dict[str, Any]:
    return read_python("ask_langchain.py", engine_server.url, server.url)


@pytest.fixture(scope="module")
def llama_index(engine_server: Server) -> dict[str, Any]:
    return read_python("ask_llama_index.py", engine_server.url)


@pytest.fixture(scope="module")
def litellm(engine_server: Server, server: Server) -> dict[str, Any]:
    return read_python("ask_litellm.py", engine_server.url, server.url)


@pytest.fixture(scope="module")
def structured(engine_server: Server, server: Server) -> dict[str, Any]:
    return read_python("ask_structured.py", engine_server.url, server.url)


def test_javascript_reads_chats_generations_and_streams_alike(javascript: dict[str, Any]) -> None:
    assert "vLLM" in javascript["chat"]
    assert javascript["stream"]["text"] == javascript["chat"] == javascript["generate"]
    assert javascript["stream"]["last"] == {"done": True, "done_reason": "stop"}


def test_javascript_reads_thinking_tools_formats_and_vectors(javascript: dict[str, Any]) -> None:
    assert "sky" in javascript["thinking"]["thinking"]
    assert "sky" in javascript["thinking"]["text"]
    called = {"index": 0, "name": "get_current_weather", "arguments": {"city": "Paris"}}
    assert javascript["tools"]["calls"] == [called]
    assert json.loads(javascript["format"]) in ("red", "green")
    assert javascript["vectors"] == [8, 8]


def test_javascript_reads_what_there_is(javascript: dict[str, Any]) -> None:
    assert javascript["list"] == javascript["ps"] == ["demo:latest"]
    assert javascript["capabilities"] == ["completion", "tools", "insert", "thinking"]
    assert len(javascript["version"].split(".")) == 3


def test_javascript_throws_our_errors_and_can_abort(javascript: dict[str, Any]) -> None:
    assert javascript["unknown"] == {"status": 404, "message": NOT_FOUND}
    assert javascript["bad"] == {"status": 400, "message": 'option "temperature" must be of type float32'}
    assert "aborted" in javascript["aborted"]["message"]


def test_langchain_reads_chats_completions_and_streams_alike(langchain: dict[str, Any]) -> None:
    assert "vLLM" in langchain["chat"]
    assert langchain["stream"] == langchain["completion"] == langchain["chat"]
    assert langchain["pieces"] > 1
    assert langchain["end"] == ["stop"]
    assert min(langchain["usage"].values()) > 0


def test_langchain_reads_thinking_tools_structures_and_vectors(langchain: dict[str, Any]) -> None:
    assert "sky" in langchain["thinking"]
    assert "Anna" in langchain["remembered"]
    assert langchain["tools"]["calls"] == [WEATHER_IN_PARIS]
    assert "21" in langchain["tools"]["said"]
    assert langchain["structured"]["colour"] in ("blue", "red")
    assert langchain["vectors"] == [8, 8]


def test_langchain_raises_our_errors(langchain: dict[str, Any]) -> None:
    assert langchain["unknown"] == f"ResponseError: {NOT_FOUND} (status code: 404)"
    assert "Available local models: demo:latest" in langchain["missing"]


def test_llama_index_reads_chats_completions_and_streams_alike(llama_index: dict[str, Any]) -> None:
    assert "vLLM" in llama_index["chat"]
    assert llama_index["stream"] == llama_index["completion"] == llama_index["chat"]
    assert llama_index["usage"]["completion_tokens"] > 0


def test_llama_index_reads_the_context_thinking_tools_and_errors(llama_index: dict[str, Any]) -> None:
    assert llama_index["context"] == 32_768
    assert "sky" in "".join(llama_index["thinking"])
    assert llama_index["tools"] == [WEATHER_IN_PARIS]
    assert llama_index["unknown"].endswith("not found (status code: 404)")


def test_litellm_reads_both_routes_streamed_or_not(litellm: dict[str, Any]) -> None:
    assert "vLLM" in litellm["chat"]
    assert litellm["generate"] == litellm["chat"]
    for stream in (litellm["chat_stream"], litellm["generate_stream"]):
        assert stream == {"text": litellm["chat"], "reasons": ["stop"]}
    assert min(litellm["usage"]) > 0


def test_litellm_reads_show_thinking_tools_vectors_and_errors(litellm: dict[str, Any]) -> None:
    assert litellm["info"] == {"max_tokens": 32_768, "tools": True}
    assert "sky" in litellm["thinking"]
    assert litellm["tools"] == [WEATHER_IN_PARIS]
    assert litellm["vectors"] == [8, 8]
    assert NOT_FOUND in litellm["unknown"]


@pytest.mark.parametrize(
    "program",
    [
        "openai, chat", "openai, responses", "instructor, tools", "instructor, schema", "instructor, partial",
        "instructor, anthropic", "outlines, schema", "outlines, stream",
    ],
)  # fmt: skip
def test_openai_instructor_and_outlines_make_a_class_of_what_the_model_wrote(
    structured: dict[str, Any], program: str
) -> None:
    person = structured[program]
    # An error would be a text.
    assert isinstance(person, dict), person
    assert person["kind"] in ("adult", "child")
    assert 0 <= person["age"] <= 130
    assert len(person["name"]) <= 12


def test_anthropic_makes_a_class_of_what_the_model_wrote(structured: dict[str, Any]) -> None:
    assert isinstance(structured["anthropic"], dict), structured["anthropic"]
    assert isinstance(structured["anthropic"]["happy"], bool)


def test_outlines_holds_the_model_to_choices_expressions_and_grammars(structured: dict[str, Any]) -> None:
    assert structured["outlines, choice"] in ("yes", "no")
    assert re.fullmatch("[0-9]{3}", structured["outlines, regex"])
    assert structured["outlines, grammar"] in ("yes", "no")


@pytest.mark.parametrize("mode", ["JSON", "Markdown", "tools", "anthropic", "two calls"])
def test_instructor_reads_each_form_that_an_answer_can_have(structured: dict[str, Any], mode: str) -> None:
    anna = {"kind": "adult", "age": 30, "name": "Anna", "tags": ["a"]}
    assert structured[f"scripted: {mode}"] == ([anna, anna] if mode == "two calls" else anna)
