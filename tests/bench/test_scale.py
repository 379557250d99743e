"""The simulation of many replicas, and that the page says what the last run has found."""

from __future__ import annotations

import msgspec

from bench.scale.page import written
from bench.scale.results import ScaleResults
from bench.scale.simulation import World, simulate
from tests.support.servers import ROOT

WORLD = World(replicas=20, models=2, rate=100.0, duration=1e9, seconds=50.0, locate=0.001, pulse=0.001)


def test_the_page_says_what_was_measured():
    results = msgspec.json.decode((ROOT / "bench/scale/results.json").read_bytes(), type=ScaleResults)
    page = (ROOT / "docs/explanation/scale.md").read_text()
    assert written(page, results) == page


def test_streams_that_do_not_end_are_spread_evenly():
    outcome = simulate(WORLD)
    assert 4500 < outcome.streams < 5500
    # The requests of a second go to the two models by chance.
    assert 1 <= outcome.most < 1.1


def test_a_host_is_as_busy_as_its_work_and_requests_wait_for_one_that_is_busy():
    calm = simulate(WORLD)
    full = simulate(msgspec.structs.replace(WORLD, rate=900.0, seconds=20.0))
    assert 0.1 < calm.busy < 0.14
    assert full.busy > 0.85
    assert calm.p99 < full.p99


def test_a_simulation_can_be_repeated():
    assert simulate(WORLD) == simulate(WORLD) != simulate(WORLD, seed=2)
