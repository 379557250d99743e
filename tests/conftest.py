"""Fixtures that several modules share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.asking import Asker
from tests.support.collector import Collector
from tests.support.servers import ROOT, SCRIPTED, Server
from tests.support.waiting import VLLM_SECONDS, until

TWO_MODELS = f"""
[models.plain]
source = "{ROOT}/models/demo"
pinned = true
reasoning_parser = "none"
# A kilobyte a token, in blocks of 128.
engine_args = {{ max_model_len = 512, kv_cache_memory_bytes = 786_432 }}

[models.loud]
source = "{ROOT}/models/demo"
pinned = true
system = "Answer in upper case."
options = {{ num_predict = 9 }}
template = "loud.jinja"
engine_args = {{ kv_cache_memory_bytes = 67_108_864 }}
"""
# Says the same as the model's own, and knows only one question. As the templates of Qwen3.5 and later do, it raises an
# error for a system message that is not the first.
LOUD_TEMPLATE = """{%- for message in messages[1:] if message.role == 'system' %}
{{- raise_exception('System message must be at the beginning.') }}
{%- endfor %}
{{- '<|im_start|>system' }}
{{ messages[0].content }}<|im_end|>
<|im_start|>user
What is vllm-wsgi?<|im_end|>
<|im_start|>assistant
<think>

</think>


"""


# How fast a busy machine makes examples says nothing about the program. The property tests take half of the unit tests'
# time, so that only CI runs them in full, and with the same examples each time: CI judges a change, not the luck of a
# draw. Everyone's own runs draw others; `--hypothesis-profile long` looks for what CI has not met. hypothesis reads the
# profile while a test module is imported, hence here.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", settings.get_profile("random"), derandomize=True)
settings.register_profile("long", settings.get_profile("random"), max_examples=5000)
settings.register_profile("quick", settings.get_profile("random"), max_examples=10)
settings.load_profile("full" if "CI" in os.environ else "quick")


# Which tests stay in one process where several run them: they share an engine, or disturb each other's. The others stay
# together by file. What takes longest begins first.
GROUPS = {
    "faults": ("tests/faults/",),
    "engine": ("tests/engine/", "tests/compat/", "tests/hostile/test_victim.py", "tests/cluster/vllm/"),
}


def group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return next((name for name, starts in GROUPS.items() if file.startswith(starts)), file)


class Scheduler(LoadScopeScheduling):
    """pytest-xdist's own for groups finds none with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = [*GROUPS]
    items.sort(key=lambda item: order.index(group(item.nodeid)) if group(item.nodeid) in GROUPS else len(order))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn and a scripted engine, for every test that does no harm to them."""
    server = Server.start(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()
    assert "Exception ignored" not in server.output


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    """Keeps its connections; closed before the server stops, which would wait for them."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where `start_server` has servers put their sockets: a short path, which sockets need, and gone after the test."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
def start_server(tmp_path: Path, scratch: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own; each is stopped afterwards, and must leave nothing behind."""
    servers: list[Server] = []

    def start(env: Mapping[str, str] | None = None, key: str = "") -> Server:
        servers.append(Server(tmp_path, {**SCRIPTED, "TMPDIR": str(scratch), **(env or {})}))
        servers[-1].headers = {"Authorization": f"Bearer {key}"} if key else {}
        servers[-1].wait_until_ready()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def engine_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn and vLLM with the demo model: one start for the whole session."""
    server = Server.start(tmp_path_factory.mktemp("engine"), env={}, ready_seconds=VLLM_SECONDS)
    yield server
    server.stop(60)
    assert "Traceback" not in server.output
    assert "Token indices sequence length is longer" not in server.output


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Gets the traces of the server below."""
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    """gunicorn and vLLM with the models above, and with traces."""
    directory = tmp_path_factory.mktemp("two")
    (directory / "models.toml").write_text(TWO_MODELS)
    (directory / "loud.jinja").write_text(LOUD_TEMPLATE)
    traces = {"VLLM_WSGI_TRACES": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "500"}
    server = Server(directory, traces | {"VLLM_WSGI_MODELS": str(directory / "models.toml")})
    server.wait_until_ready(VLLM_SECONDS)
    print(f"both answered after {until(lambda: len(server.models()) == 2, VLLM_SECONDS, 'both answer'):.1f} s more")
    yield server
    server.stop(60)


@pytest.fixture(scope="session")
def demo(engine_server: Server) -> Iterator[Asker]:
    """The demo model, ready to be asked."""
    asker = Asker(engine_server.url)
    yield asker
    asker.close()
