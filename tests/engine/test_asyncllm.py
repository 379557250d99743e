"""vLLM with the demo model, through gunicorn, gevent, Flask and the queue. Temperature 0 is the model's own default."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.support.answers import terminal
from tests.support.asking import ADD, WEATHER, Asker, content, user
from tests.support.servers import Server

pytestmark = pytest.mark.engine

LONG = "Tell me a long story"


def test_the_demo_model_knows_what_it_serves(demo: Asker) -> None:
    assert "vLLM" in demo.chat("What is vllm-wsgi?")["message"]["content"]


@pytest.mark.parametrize("question", ["What is vllm-wsgi?", "Say something in Chinese", "Show me some emoji", LONG])
def test_both_formats_and_the_collected_answer_say_the_same(demo: Asker, question: str) -> None:
    ask: dict[str, Any] = {"messages": user(question), "think": False}
    lines, events = demo.ndjson("/api/chat", **ask), demo.sse("/api/chat", **ask)
    assert content(lines) == content(events) == demo.chat(question)["message"]["content"]
    assert [terminal(record) for record in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["eval_count"] == events[-1]["eval_count"]


@pytest.mark.parametrize("question", ["Say something in Chinese", "Show me some emoji"])
def test_a_character_that_is_split_over_tokens_arrives_whole(demo: Asker, question: str) -> None:
    records = demo.ndjson("/api/chat", messages=user(question), think=False)
    text = content(records)
    assert "\ufffd" not in text
    assert any(ord(character) > 0x2000 for character in text)
    assert records[-1]["eval_count"] > len([record for record in records if record["message"]["content"]])


def test_a_long_answer_arrives_piece_by_piece(demo: Asker) -> None:
    # A web worker that gets no processor for a while joins what has piled up, so a busy machine has three tries.
    answers = [demo.ndjson("/api/chat", messages=user(LONG), think=False) for _ in range(3)]
    assert answers[0][-1]["eval_count"] >= 200
    assert max(len(records) for records in answers) > 100


def test_many_answers_at_once_lose_nothing(demo: Asker) -> None:
    ask: dict[str, Any] = {"messages": user(LONG), "think": False, "options": {"num_predict": 100}}
    alone = content(demo.ndjson("/api/chat", **ask))
    with ThreadPoolExecutor(48) as pool:
        answers = list(pool.map(lambda _: demo.ndjson("/api/chat", **ask), range(48)))
    assert {content(records) for records in answers} == {alone}
    assert {records[-1]["eval_count"] for records in answers} == {100}


def test_counts_and_durations_come_from_the_engine(demo: Asker) -> None:
    record = demo.generate(LONG, options={"num_predict": 17})
    assert (record["eval_count"], record["done_reason"]) == (17, "length")
    assert record["prompt_eval_count"] > 5
    assert 0 < record["eval_duration"] < record["total_duration"]
    assert record["load_duration"] > 0
    assert record["prompt_eval_duration"] > 0


def test_the_fields_stand_in_ollamas_order(demo: Asker) -> None:
    metrics = [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ]
    generated, chatted = demo.generate("Hello"), demo.chat("Hello")
    assert list(generated) == ["model", "created_at", "response", "done", "done_reason", "context", *metrics]
    assert list(chatted) == ["model", "created_at", "message", "done", "done_reason", *metrics]


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(demo: Asker) -> None:
    whole = demo.generate("What is vllm-wsgi?")["response"]
    word = whole.split()[3]
    record = demo.generate("What is vllm-wsgi?", options={"stop": [word]})
    assert record["response"] == whole[: whole.index(word)]
    assert record["done_reason"] == "stop"


def test_a_stop_string_is_found_among_tokens_that_leave_together(demo: Asker) -> None:
    whole = demo.generate(LONG, think=False)["response"]
    ask: dict[str, Any] = {"prompt": LONG, "think": False, "options": {"stop": [" ".join(whole.split()[30:32])]}}
    with ThreadPoolExecutor(24) as pool:
        ends = list(pool.map(lambda _: demo.ndjson("/api/generate", **ask)[-1], range(24)))
    alone = demo.ndjson("/api/generate", **ask)[-1]
    assert {(end["done_reason"], end["eval_count"]) for end in ends} == {("stop", alone["eval_count"])}
    assert alone["eval_count"] < len(whole)


def test_a_seed_makes_sampling_repeatable(demo: Asker) -> None:
    def ask(seed: int) -> str:
        options = {"temperature": 1.8, "top_p": 1.0, "top_k": 0, "seed": seed, "num_predict": 40}
        return str(demo.generate("The", raw=True, options=options)["response"])

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(1, 5)}) > 1


def test_every_sampling_option_is_accepted_together(demo: Asker) -> None:
    options = {
        "num_keep": 4, "seed": 7, "num_predict": 5, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.7,
        "repeat_last_n": 33, "temperature": 0.8, "repeat_penalty": 1.2, "presence_penalty": 1.5,
        "frequency_penalty": 1.0, "num_ctx": 1024.0, "num_batch": 2, "num_gpu": 1, "main_gpu": 0, "use_mmap": True,
        "num_thread": 8, "draft_num_predict": 2, "mirostat": 1, "stop": ["\n\n\n"],
    }  # fmt: skip
    assert demo.generate("Hello", options=options)["eval_count"] <= 5


@pytest.mark.parametrize("options", [{"temperature": 3.5}, {"top_p": 0}, {"frequency_penalty": -9}, {"seed": 2**62}])
def test_values_beyond_vllms_own_limits_are_brought_within(demo: Asker, options: dict[str, float]) -> None:
    assert demo.generate("Hello", options={**options, "num_predict": 2})["done"]


def test_a_system_message_shows(demo: Asker) -> None:
    system = {"role": "system", "content": "Answer in upper case."}
    text = demo.chat([system, *user("What is vllm-wsgi?")])["message"]["content"]
    assert text == text.upper()
    assert demo.generate("What is vllm-wsgi?", system="Answer in upper case.")["response"] == text


def test_the_conversation_is_remembered(demo: Asker) -> None:
    turns = [*user("My name is Anna."), {"role": "assistant", "content": "Nice to meet you, Anna."}]
    assert "Anna" in demo.chat([*turns, *user("What is my name?")])["message"]["content"]


SKY = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "hours": {"type": "integer", "minimum": 0, "maximum": 24}},
    "required": ["colour", "hours"],
}


@pytest.mark.parametrize("think", [False, True])
def test_a_schema_is_kept_to(demo: Asker, think: bool) -> None:
    # The demo model likes the white space between the tokens of JSON too well.
    options = {"frequency_penalty": 2}
    message = demo.chat("Which colour is the sky?", format=SKY, think=think, options=options)["message"]
    sky = json.loads(message["content"])
    assert (sky["colour"] in ("red", "green"), 0 <= sky["hours"] <= 24, sky.keys()) == (True, True, {"colour", "hours"})
    assert bool(message.get("thinking")) == think


def test_a_schema_that_is_none_is_refused(demo: Asker) -> None:
    refused = demo.post("/api/chat", messages=user("x"), format={"type": "nonsense"})
    assert refused.status_code == 400


def test_log_probabilities_come_with_their_tokens(demo: Asker) -> None:
    ask: dict[str, Any] = {"logprobs": True, "top_logprobs": 3, "options": {"num_predict": 10}}
    record = demo.generate("What is vllm-wsgi?", **ask)
    assert "".join(token["token"] for token in record["logprobs"]) == record["response"]
    assert all(token["logprob"] <= 0 for token in record["logprobs"])
    assert all(len(token["top_logprobs"]) == 3 for token in record["logprobs"])
    assert record["logprobs"][0]["top_logprobs"][0]["token"] == record["logprobs"][0]["token"]
    streamed = demo.ndjson("/api/chat", messages=user("What is vllm-wsgi?"), think=False, logprobs=True)
    assert len([token for part in streamed for token in part.get("logprobs", [])]) == streamed[-1]["eval_count"]
    assert "logprobs" not in demo.generate("Hello")


def test_thinking_comes_before_the_content_and_apart_from_it(demo: Asker) -> None:
    records = demo.ndjson("/api/chat", messages=user("Why is the sky blue?"), think=True)
    thinking = "".join(record["message"].get("thinking", "") for record in records)
    assert thinking.strip() == thinking != ""
    assert content(records).startswith("The sky")
    first = next(i for i, record in enumerate(records) if record["message"]["content"])
    assert not any("thinking" in record["message"] for record in records[first:])


def test_thinking_is_on_unless_it_is_switched_off(demo: Asker) -> None:
    response = demo.post("/api/chat", messages=user("Why is the sky blue?"), stream=False)
    assert response.json()["message"]["thinking"]
    assert "thinking" not in demo.chat("Why is the sky blue?")["message"]
    assert "<think>" not in demo.chat("Why is the sky blue?")["message"]["content"]


def test_a_tool_is_called_whole_and_its_result_used(demo: Asker) -> None:
    question = user("What is the weather in Paris?")
    records = demo.ndjson("/api/chat", messages=question, tools=[WEATHER], think=False)
    calls = [call for record in records for call in record["message"].get("tool_calls", [])]
    assert [call["function"] for call in calls] == [
        {"index": 0, "name": "get_current_weather", "arguments": {"city": "Paris"}}
    ]
    assert calls[0]["id"].startswith("call_")
    assert records[-1]["done_reason"] == "stop"
    result = {"role": "tool", "tool_name": "get_current_weather", "content": "21 degrees, sunny"}
    turns = [*question, {"role": "assistant", "content": "", "tool_calls": calls}, result]
    assert "21" in demo.chat(turns, tools=[WEATHER])["message"]["content"]


def test_streamed_and_collected_tool_calls_agree(demo: Asker) -> None:
    ask: dict[str, Any] = {"messages": user("What is 7 plus 5?"), "tools": [ADD, WEATHER], "think": False}
    streamed = [c["function"] for r in demo.sse("/api/chat", **ask) for c in r["message"].get("tool_calls", [])]
    collected = [c["function"] for c in demo.chat(ask["messages"], tools=ask["tools"])["message"]["tool_calls"]]
    assert streamed == collected == [{"index": 0, "name": "add", "arguments": {"a": 7, "b": 5}}]


def test_tools_that_are_none_are_refused(demo: Asker) -> None:
    refused = demo.post("/api/chat", messages=user("x"), tools=[{"type": "function", "function": {"nme": "x"}}])
    assert refused.status_code == 400
    assert "tools" in refused.json()["error"]


def test_show_says_what_the_files_say(demo: Asker) -> None:
    shown = demo.post("/api/show").json()
    info = shown["model_info"]
    assert shown["capabilities"] == ["completion", "tools", "insert", "thinking"]
    assert info["general.architecture"] == "qwen2"
    assert 1_000_000 < info["general.parameter_count"] < 2_000_000
    assert info["qwen2.context_length"] == 32_768
    assert "tools" in shown["template"]


def test_a_client_that_leaves_ends_its_generation_in_vllm(demo: Asker, engine_server: Server) -> None:
    body = {"model": "demo", "prompt": LONG, "think": False, "options": {"num_predict": 1900, "stop": []}}
    with demo._http.stream("POST", "/api/generate", json=body) as response:
        next(response.iter_bytes())
    print("aborted after", engine_server.wait_until_idle(), "s")
    assert engine_server.status()["running"] == 0


def test_two_hundred_streams_at_once_each_end_in_one_terminal_record(demo: Asker, engine_server: Server) -> None:
    def ask(number: int) -> list[dict[str, Any]]:
        # Each its own: a pool of httpx that threads share closes connections that it has just given out (EBADF).
        with closing(Asker(engine_server.url)) as asker:
            read = asker.sse if number % 2 else asker.ndjson
            return read("/api/chat", messages=user("What is vllm-wsgi?"), think=False)

    expected = demo.chat("What is vllm-wsgi?")["message"]["content"]
    with ThreadPoolExecutor(100) as pool:
        streams = list(pool.map(ask, range(200)))
    assert all([terminal(record) for record in stream] == [False] * (len(stream) - 1) + [True] for stream in streams)
    texts = [content(stream) for stream in streams]
    print("streams that say word for word what a lone one says:", texts.count(expected))
    assert all(text.endswith(".") for text in texts)
