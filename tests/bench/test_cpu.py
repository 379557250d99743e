from __future__ import annotations

import os
import threading
import time

import pytest

from bench.cpu import CORE, ENGINE_FRONT, OTHER, WEB, Processes, cpu_seconds, part, used


def spin() -> None:
    sum(range(200_000))


def test_a_process_time_is_what_the_process_itself_counts():
    before = time.process_time()
    seen = cpu_seconds(os.getpid())
    assert before <= seen <= time.process_time()


def test_a_thread_that_has_ended_still_counts():
    before = cpu_seconds(os.getpid())
    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()
    assert cpu_seconds(os.getpid()) > before


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["VLLM::EngineCore", "", ""], CORE),
        (["VLLM::Worker_TP0"], CORE),
        (["/venv/bin/python", "-m", "service.engine.worker.process", "{}"], ENGINE_FRONT),
        (["python", "-m", "bench.bare", "model"], ENGINE_FRONT),
        (["gunicorn: worker [wsgi:app]"], WEB),
        (["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "x"], WEB),
        (["/cache/vllm-rs-0.32.0", "frontend", "--listen-fd", "3"], WEB),
        (["python", "-m", "vllm.entrypoints.cli.main", "serve", "model"], OTHER),
        (["gunicorn: master [wsgi:app]"], OTHER),
        (["python", "-m", "service.engine.host"], OTHER),
        ([], OTHER),
    ],
)
def test_a_process_part_is_told_by_its_title(command: list[str], name: str):
    assert part(command) == name


def test_parts_are_summed_and_told_apart():
    here = Processes(os.getpid(), lambda command: WEB)
    before = here.cpu()
    spin()
    assert used(before, here.cpu())[WEB] > 0
    assert here.memory()[WEB] > 1 << 20
