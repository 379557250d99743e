"""Keeps account of the faults that the tests of this session have survived."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.faults.table import Survived

account = Survived()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", action="store_true", help="write docs/reference/faults.md")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for mark in item.iter_markers("fault"):
        engine = "vLLM" if item.get_closest_marker("engine") else "scripted engine"
        # Those that take minutes are left to the run that writes the page.
        is_left_out = report.skipped and engine == "vLLM" and not item.config.getoption("--write-faults")
        account.add(mark.args[0], engine, report.passed or is_left_out)
    return report


@pytest.fixture
def survived() -> Survived:
    return account
