"""What the host tells systemd of its start; tests/deploy/test_systemd.py hears it from the running host."""

from __future__ import annotations

import pytest

from service.engine.host.systemd import progress
from service.protocol.model_info import EngineState

IDLE, LOADING, READY, RESTARTING, UNLOADING, _ = EngineState


@pytest.mark.parametrize(
    "states",
    [{}, {"a": READY}, {"a": READY, "b": RESTARTING}, {"a": IDLE}, {"a": READY, "b": UNLOADING}],
)
def test_the_start_is_over_when_no_pinned_model_loads_any_more(states: dict[str, EngineState]):
    over, told = progress(states)
    assert (over, told[0]) == (True, "READY=1")


@pytest.mark.parametrize("other", [READY, IDLE, RESTARTING])
def test_a_start_that_loads_a_model_asks_for_time_and_names_it(other: EngineState):
    told = ["EXTEND_TIMEOUT_USEC=60000000", "STATUS=loading b"]
    assert progress({"a": other, "b": LOADING}) == (False, told)


def test_a_start_in_which_every_model_fails_asks_for_nothing():
    assert progress({"a": RESTARTING, "b": RESTARTING}) == (False, ["STATUS=not loaded, see the log: a, b"])
