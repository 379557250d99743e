from __future__ import annotations

import pytest

from bench.aims import BARE, VLLM, ratios
from bench.cpu import CORE, WEB
from bench.model import question
from bench.results import Figure, Machine, Results, figure, front_microseconds, of, part_microseconds
from bench.rounds import Point, Run, percentiles
from bench.tables import cell, table
from bench.webtier import Silent, Start, Steady

POINT = Point(64, 0, 10)


def run(side: str, number: int, seconds: float = 1.0, **cpu: float) -> Run:
    return Run(side, POINT, number, 1000, 20, seconds, cpu, {}, 0.0, 500, {"p50": 0.1}, {"p99": 0.2})


def results(*runs: Run) -> Results:
    nothing = Steady(0, 0, 1, 0, {}, 0, 0, {})
    return Results("", 0, Machine.this(), {}, list(runs), [], Start(0, 0), [nothing], Silent(0, 0, {}, 0))


def test_percentiles_lie_between_the_nearest_two():
    assert percentiles([float(value) for value in range(101)]) == {"p50": 50.0, "p99": 99.0}
    assert percentiles([3.0]) == {"p50": 3.0, "p99": 3.0}
    assert percentiles([]) == {"p50": 0.0, "p99": 0.0}


def test_the_front_is_everything_but_the_core():
    one = run("a", 1, **{CORE: 5.0, WEB: 0.02, "engine front": 0.03, "other": 0.01})
    assert front_microseconds(one) == pytest.approx(60)
    assert part_microseconds(one, WEB) == pytest.approx(20)
    assert part_microseconds(one, "nothing") == 0


def test_ratios_are_of_the_same_round():
    runs = [run(BARE, 2, 1.0), run(VLLM, 1, 4.0), run(VLLM, 2, 2.0), run(BARE, 1, 1.0)]
    assert ratios(results(*runs), VLLM, BARE, POINT, lambda each: each.rate) == [0.25, 0.5]
    assert [each.round for each in of(runs, VLLM, POINT)] == [1, 2]


def test_a_cell_tells_the_spread_where_there_is_one():
    assert figure([3.0, 1.0, 2.0]) == Figure(2.0, 1.0, 3.0)
    assert cell(figure([3.0, 1.0, 2.0]), "{:.0f}") == "2 [1–3]"
    assert cell(figure([2.0]), "{:.0f}") == "2"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_no_two_questions_begin_alike():
    assert len({question(118, number)[:8] for number in range(1000, 1256)}) == 256
    assert question(0, 7) == "7 What is vllm-wsgi?"
