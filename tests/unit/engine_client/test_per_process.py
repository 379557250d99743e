"""One thing for each process: made once, and made again in a child."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier

import pytest

from service.engine_client.per_process import PerProcess


def test_threads_that_ask_at_once_get_the_same_thing():
    made, barrier = count(), Barrier(8)
    thing = PerProcess(lambda: next(made))

    def ask() -> int:
        barrier.wait(10)
        return thing.get()

    with ThreadPoolExecutor(8) as pool:
        assert {each.result() for each in [pool.submit(ask) for _ in range(8)]} == {0}


def test_a_child_makes_its_own(monkeypatch: pytest.MonkeyPatch):
    in_child: list[Callable[[], None]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda after_in_child: in_child.append(after_in_child))
    made = count()
    thing = PerProcess(lambda: next(made))
    assert thing.get() == thing.get() == 0
    in_child[0]()
    assert thing.get() == 1


def test_what_can_not_be_made_is_tried_again():
    tries = iter([ZeroDivisionError, None])

    def make() -> str:
        if error := next(tries):
            raise error
        return "made"

    thing = PerProcess(make)
    with pytest.raises(ZeroDivisionError):
        thing.get()
    assert thing.get() == "made"
