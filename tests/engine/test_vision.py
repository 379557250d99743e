"""A model that sees, and the images that clients send it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.engine.vllm.render import TOO_LONG
from tests.support.answers import terminal
from tests.support.asking import WEATHER, Asker, content
from tests.support.image_bombs import BOMBS
from tests.support.servers import Server
from tests.support.tiny_eyes import (
    AROUND,
    BLUE,
    CONTEXT,
    CUT,
    IMAGE_TOKENS,
    MOST_IMAGES,
    MOST_PIXELS,
    NO_IMAGE,
    RED,
    make_model,
    picture,
)
from tests.support.waiting import VLLM_SECONDS

# vLLM looks into a model that sees in a process of its own before it loads it.
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vision") / "tiny-eyes"
    directory.mkdir()
    make_model(directory)
    return directory


@pytest.fixture(scope="module")
def eyes(model: Path) -> Iterator[Asker]:
    limits = f'{{"max_model_len": {CONTEXT}, "limit_mm_per_prompt": {{"image": {MOST_IMAGES}}}}}'
    env = {"MODEL": str(model), "VLLM_WSGI_ENGINE_ARGS": limits, "VLLM_MAX_IMAGE_PIXELS": str(MOST_PIXELS)}
    server = Server.start(model.parent, env, ready_seconds=VLLM_SECONDS)
    asker = Asker(server.url, "tiny-eyes")
    yield asker
    asker.close()
    assert server.status()["restarts"] == 0
    server.stop(60)
    assert "Traceback" not in server.output


def user(text: str, *images: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text, "images": list(images)}


def look(eyes: Asker, *messages: dict[str, Any], **body: Any) -> dict[str, Any]:
    """A short answer with the probabilities of its tokens."""
    options = {"temperature": 0, "num_predict": 4, **body.pop("options", {})}
    return eyes.chat(list(messages), options=options, logprobs=True, **body)


def probabilities(record: dict[str, Any]) -> list[float]:
    return [token["logprob"] for token in record["logprobs"]]


def test_it_says_that_it_sees(eyes: Asker) -> None:
    shown = eyes.post("/api/show").json()
    assert shown["capabilities"] == ["completion", "insert", "vision"]
    assert shown["model_info"]["idefics3.embedding_length"] == 64


def test_what_it_says_depends_on_what_it_sees(eyes: Asker) -> None:
    red, again, blue = (probabilities(look(eyes, user("Hi", image))) for image in (RED, RED, BLUE))
    assert red == pytest.approx(again, abs=1e-3)
    assert red != pytest.approx(blue, abs=0.1)


def test_images_are_seen_in_their_order(eyes: Asker) -> None:
    here, there = (probabilities(look(eyes, user("Hi", *two))) for two in ((RED, BLUE), (BLUE, RED)))
    assert here != pytest.approx(there, abs=0.05)


def test_the_file_may_be_of_any_format_and_size(eyes: Asker) -> None:
    png = probabilities(look(eyes, user("Hi", picture("red", (64, 64)))))
    assert probabilities(look(eyes, user("Hi", picture("red", (640, 640), "BMP")))) == pytest.approx(png, abs=0.1)


def test_an_image_counts_as_the_tokens_that_it_is(eyes: Asker) -> None:
    blind, one, two = (look(eyes, user("Hi", *images))["prompt_eval_count"] for images in ((), (RED,), (RED, BLUE)))
    assert (one - blind, two - blind) == (IMAGE_TOKENS + AROUND, 2 * (IMAGE_TOKENS + AROUND))


def test_streams_say_what_the_collected_answer_says(eyes: Asker) -> None:
    body = {"options": {"temperature": 0, "num_predict": 8}, "think": False}
    whole = eyes.chat([user("Hi", RED)], **body)["message"]["content"]
    assert whole
    for ask in (eyes.ndjson, eyes.sse):
        records = ask("/api/chat", messages=[user("Hi", RED)], **body)
        assert content(records) == whole
        assert [terminal(record) for record in records] == [False] * (len(records) - 1) + [True]


def test_generate_sees_what_chat_sees(eyes: Asker) -> None:
    options = {"temperature": 0, "num_predict": 4}
    record = eyes.generate("Hi", images=[RED], options=options, logprobs=True)
    assert probabilities(record) == pytest.approx(probabilities(look(eyes, user("Hi", RED))), abs=1e-3)


def test_the_context_to_go_on_from_is_without_the_image(eyes: Asker) -> None:
    options = {"temperature": 0, "num_predict": 1}
    record, blind = (eyes.generate("Hi", images=images, options=options) for images in ([RED], []))
    assert record["context"][:-1] == blind["context"][:-1]


def test_an_image_keeps_its_place_behind_a_context(eyes: Asker, model: Path) -> None:
    from transformers import AutoTokenizer

    before = AutoTokenizer.from_pretrained(model).encode("<|im_start|>system\nBe brief.<|im_end|>\n")
    body: dict[str, Any] = {"images": [RED], "options": {"temperature": 0, "num_predict": 4}, "logprobs": True}
    written, given = (eyes.generate("Hi", **body, **each) for each in ({"system": "Be brief."}, {"context": before}))
    assert given["prompt_eval_count"] == written["prompt_eval_count"]
    assert probabilities(given) == pytest.approx(probabilities(written), abs=1e-3)


def test_without_a_prompt_an_image_only_loads_the_model(eyes: Asker) -> None:
    assert eyes.generate("", images=[RED])["done_reason"] == "load"


def test_an_image_is_cut_with_its_turn(eyes: Asker) -> None:
    last = [user("yes", role="assistant"), user("Hi", BLUE)]
    cut = look(eyes, user("word " * 40, RED), *last, options={"num_ctx": 32})
    assert cut["prompt_eval_count"] == look(eyes, *last)["prompt_eval_count"]
    assert probabilities(cut) == pytest.approx(probabilities(look(eyes, *last)), abs=1e-3)


def test_an_image_whose_prompt_was_too_long_is_taken_later(eyes: Asker) -> None:
    green = picture("green")
    refused = eyes.post("/api/chat", messages=[user("word " * CONTEXT, green)])
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(f"{TOO_LONG}; the prompt has ")
    assert look(eyes, user("Hi", green))["done"]


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([NO_IMAGE], "image 1 of 1 can't be read: it is damaged, or not an image"),
        ([RED, CUT], "image 2 of 2 can't be read: it is damaged, or not an image"),
        ([""], "image 1 of 1 can't be read: it is damaged, or not an image"),
        ([picture("red", (1001, 1000))], "the images have more than 1000000 pixels together"),
        ([picture("red", (800, 800))] * 2, "the images have more than 1000000 pixels together"),
        ([picture("red", (20_000, 10_000))], "the images have more than 1000000 pixels together"),
        (
            [RED] * (MOST_IMAGES + 1),
            "the model refuses the messages: At most 3 image(s) may be provided in one prompt. (parameter=image)",
        ),
        (["data:image/png;base64," + RED], "illegal base64 data at input byte 4"),
    ],
    ids=["no image", "cut", "empty", "large", "large together", "bomb", "many", "data URI"],
)
def test_a_bad_image_is_the_clients_mistake(eyes: Asker, images: list[str], sentence: str) -> None:
    refused = eyes.post("/api/chat", messages=[user("Hi", *images)])
    assert (refused.status_code, refused.json()) == (400, {"error": sentence})


@pytest.mark.parametrize("kind", BOMBS)
def test_an_image_that_is_a_bomb_is_refused_or_seen_and_harms_nobody(eyes: Asker, kind: str) -> None:
    bomb = base64.b64encode(BOMBS[kind]()).decode()
    for images in ([bomb], [RED, bomb, bomb]):
        answer = eyes.post("/api/chat", messages=[user("Hi", *images)], options={"num_predict": 1}, stream=False)
        assert answer.status_code in (200, 400), answer.text
    assert look(eyes, user("Hi", RED))["done"]


def test_more_images_than_a_request_may_have_are_refused_before_they_are_read(eyes: Asker) -> None:
    refused = eyes.post("/api/chat", messages=[user("Hi", *[RED] * 300), user("Hi", *[RED] * 201)])
    assert refused.json() == {"error": "a request may have at most 500 images, and this one has 501"}
    refused = eyes.post("/api/chat", messages=[user("Hi", *[RED] * 500)])
    assert (refused.status_code, "At most 3 image(s)" in refused.json()["error"]) == (400, True)


def test_an_image_that_the_template_leaves_out_is_shown_in_another_form(eyes: Asker) -> None:
    """The template has no place for an image of the system; in the user's turn there is one."""
    assert look(eyes, user("Look.", RED, role="system"), user("Hi"))["done"]


def test_an_image_token_in_a_text_harms_nobody(eyes: Asker) -> None:
    assert look(eyes, user("a <image> b"))["done"]
    assert look(eyes, user("a <image> b", RED))["done"]
    assert eyes.generate("<image>", raw=True, options={"num_predict": 2})["done"]


def test_messages_see_images_and_those_of_tools_and_count_them(eyes: Asker) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": RED}
    image = {"type": "image", "source": source}
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
        {"role": "assistant", "content": [{"type": "text", "text": "So?"}, use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [image]}]},
    ]
    usage = eyes.post("/v1/messages", messages=turns, max_tokens=1).json()["usage"]
    counted = eyes.post("/v1/messages/count_tokens", messages=turns).json()["input_tokens"]
    assert counted == usage["input_tokens"] + usage["cache_read_input_tokens"]
    turns[0]["content"].pop()
    without = eyes.post("/v1/messages/count_tokens", messages=turns).json()["input_tokens"]
    assert counted - without == IMAGE_TOKENS + AROUND


def test_responses_see_what_chat_sees(eyes: Asker) -> None:
    parts = [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": f"data:;base64,{RED}"}]
    answer = eyes.post("/v1/responses", input=[{"role": "user", "content": parts}], max_output_tokens=1).json()
    assert answer["usage"]["input_tokens"] == look(eyes, user("Look", RED))["prompt_eval_count"]


def test_a_model_without_eyes_refuses_images_in_ollamas_words(demo: Asker) -> None:
    refused = demo.post("/api/chat", messages=[user("Hi", RED)], tools=[WEATHER])
    message = "registry.ollama.ai/library/demo:latest does not support vision"
    assert (refused.status_code, refused.json()) == (400, {"error": message})
    assert demo.post("/api/generate", prompt="Hi", images=[RED]).json() == {"error": message}


def test_what_a_model_can_not_do_is_told_at_once(eyes: Asker, demo: Asker) -> None:
    refused = eyes.post("/api/chat", messages=[user("Hi", RED)], tools=[WEATHER])
    assert refused.json() == {"error": "registry.ollama.ai/library/tiny-eyes:latest does not support tools"}
    assert "vision" not in demo.post("/api/show").json()["capabilities"]
