"""How long tests wait, and for what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

# How long a test waits for what a busy machine does late. Waits end before where it can't come any more.
PATIENCE_SECONDS = 60.0
# vLLM needs 30 seconds to start, and many times as long on a machine that does other work.
VLLM_SECONDS = 500.0


def until(
    condition: Callable[[], Any],
    seconds: float,
    what: str,
    unless: Callable[[], str] = lambda: "",
    pause: float = 0.02,
) -> float:
    """Wait until `condition` holds, and return the seconds that it took. It is asked again after `pause` seconds.

    Fails after `seconds`, or as soon as `unless` returns why the condition can't hold any more; `what` is what was
    waited for.
    """
    began = time.monotonic()
    while True:
        # Asked before the condition, which may have come true in between.
        hopeless = unless()
        if condition():
            return time.monotonic() - began
        if hopeless:
            raise AssertionError(f"{what}: {hopeless}")
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def one_is_done(requests: Iterable[Future[Any]]) -> Callable[[], str]:
    """Return an `unless` for waits during requests that must go on meanwhile."""

    def unless() -> str:
        done = next((each for each in requests if each.done()), None)
        return "" if done is None else f"a request has ended: {done.exception() or done.result()}"

    return unless
