"""vLLM twice: the demo model under two names, one of which the operator has given manners of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.asking import Asker, user
from tests.support.servers import Server

pytestmark = pytest.mark.engine

QUESTION = "What is vllm-wsgi?"


@pytest.fixture
def askers(two_models: Server) -> Iterator[tuple[Asker, Asker]]:
    """Of `plain` and of `loud`."""
    askers = Asker(two_models.url, "plain"), Asker(two_models.url, "loud")
    yield askers
    for asker in askers:
        asker.close()


def test_two_models_answer_at_once_each_in_its_own_manner(askers: tuple[Asker, Asker]) -> None:
    plain, loud = askers
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(plain.chat, QUESTION), pool.submit(loud.chat, "Hello")]
        said, shouted = (answer.result() for answer in answers)
    text = shouted["message"]["content"]
    assert "vLLM" in said["message"]["content"]
    assert said["message"]["content"].upper().startswith(text)
    assert text == text.upper()
    assert (shouted["done_reason"], shouted["eval_count"]) == ("length", 9)


def test_a_wish_to_think_is_dropped_where_the_model_can_not(askers: tuple[Asker, Asker]) -> None:
    plain, _ = askers
    wish = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "low"}}
    answer = plain.post("/v1/messages", messages=user(QUESTION), max_tokens=50, temperature=0, **wish)
    assert [block["type"] for block in answer.json()["content"]] == ["text"]
    assert plain.post("/v1/chat/completions", messages=user("x"), reasoning_effort="low").status_code == 400


def test_an_answer_that_fills_the_context_has_a_reason_of_its_own(askers: tuple[Asker, Asker]) -> None:
    plain, _ = askers
    fewer, more = (counted(plain, words) for words in (100, 200))
    words = 100 + (509 - fewer) * 100 // (more - fewer)
    cut = plain.post("/v1/messages", messages=user("word " * words), max_tokens=400).json()
    assert cut["stop_reason"] == "model_context_window_exceeded"
    assert counted(plain, words) + cut["usage"]["output_tokens"] == 512
    limited = plain.post("/v1/messages", messages=user("word " * words), max_tokens=1).json()
    assert (limited["stop_reason"], limited["usage"]["output_tokens"]) == ("max_tokens", 1)


def counted(asker: Asker, words: int) -> int:
    answer = asker.post("/v1/messages/count_tokens", messages=user("word " * words))
    return int(answer.json()["input_tokens"])


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/api/chat"])
def test_a_later_system_message_is_moved_where_the_template_refuses_it(askers: tuple[Asker, Asker], path: str) -> None:
    """Claude Code sends it behind the user's message on its first turn."""
    _, loud = askers
    turns = [*user("Hello"), {"role": "system", "content": "Be brief."}]
    is_responses = path == "/v1/responses"
    said = {"input": turns, "max_output_tokens": 9} if is_responses else {"messages": turns, "max_tokens": 9}
    answer = loud.post(path, **said, stream=False)
    assert answer.status_code == 200, answer.text


def test_one_is_unloaded_and_the_other_answers_on(two_models: Server, askers: tuple[Asker, Asker]) -> None:
    plain, loud = askers
    assert loud.post("/api/generate", keep_alive=0).json()["done_reason"] == "unload"
    assert [entry["name"] for entry in two_models.models()] == ["plain:latest"]
    assert plain.chat(QUESTION)["done"]
    assert len([each for each in two_models.processes() if "EngineCore" in " ".join(each.cmdline())]) == 1
