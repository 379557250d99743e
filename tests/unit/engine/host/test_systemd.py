"""What the host tells systemd of its start; tests/deploy/test_systemd.py hears it from the running host."""

from __future__ import annotations

import pytest

from service.engine.host.systemd import progress


@pytest.mark.parametrize(
    "states",
    [{}, {"a": "ready"}, {"a": "ready", "b": "restarting"}, {"a": "idle"}, {"a": "ready", "b": "unloading"}],
)
def test_the_start_is_over_when_no_pinned_model_loads_any_more(states: dict[str, str]):
    over, told = progress(states)
    assert (over, told[0]) == (True, "READY=1")


@pytest.mark.parametrize("other", ["ready", "idle", "restarting"])
def test_a_start_that_loads_a_model_asks_for_time_and_names_it(other: str):
    told = ["EXTEND_TIMEOUT_USEC=60000000", "STATUS=loading b"]
    assert progress({"a": other, "b": "loading"}) == (False, told)


def test_a_start_in_which_every_model_fails_asks_for_nothing():
    assert progress({"a": "restarting", "b": "restarting"}) == (False, ["STATUS=not loaded, see the log: a, b"])
