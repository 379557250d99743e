"""vLLM twice: the demo model under two names, one of which the operator has given manners of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.asking import Asker
from tests.servers import ROOT, Server, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

QUESTION = "What is vllm-wsgi?"
MODELS = f"""
[models.plain]
source = "{ROOT}/models/demo"
pinned = true
engine_args = {{ kv_cache_memory_bytes = 67_108_864 }}

[models.loud]
source = "{ROOT}/models/demo"
pinned = true
system = "Answer in upper case."
options = {{ num_predict = 9 }}
template = "loud.jinja"
engine_args = {{ kv_cache_memory_bytes = 67_108_864 }}
"""
# Says the same as the model's own, and knows only one question.
TEMPLATE = f"""<|im_start|>system
{{{{ messages[0].content }}}}<|im_end|>
<|im_start|>user
{QUESTION}<|im_end|>
<|im_start|>assistant
<think>

</think>


"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("two")
    (directory / "models.toml").write_text(MODELS)
    (directory / "loud.jinja").write_text(TEMPLATE)
    server = Server(directory, {"VLLM_WSGI_MODELS": str(directory / "models.toml")})
    server.wait_until_ready(200)
    print(f"both answered after {until(lambda: len(server.models()) == 2, 200, 'both answer'):.1f} s more")
    yield server
    server.stop(60)


@pytest.fixture
def askers(server: Server) -> Iterator[tuple[Asker, Asker]]:
    """Of `plain` and of `loud`."""
    askers = Asker(server.url, "plain"), Asker(server.url, "loud")
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


def test_one_is_unloaded_and_the_other_answers_on(server: Server, askers: tuple[Asker, Asker]) -> None:
    plain, loud = askers
    assert loud.post("/api/generate", keep_alive=0).json()["done_reason"] == "unload"
    assert [entry["name"] for entry in server.models()] == ["plain:latest"]
    assert plain.chat(QUESTION)["done"]
    assert len([each for each in server.processes() if "EngineCore" in " ".join(each.cmdline())]) == 1
