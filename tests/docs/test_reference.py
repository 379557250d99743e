"""The generated pages are as the code would write them now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.reference import PAGES, ROOT, dashboard_metrics, metric_names


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_generated_page_is_current(path: Path) -> None:
    assert path.read_text() == PAGES[path](), "run make docs"


def test_the_dashboard_asks_only_for_metrics_that_exist() -> None:
    assert dashboard_metrics() - set(metric_names()) == set()


def test_the_page_of_the_faults_is_generated() -> None:
    assert "do not edit" in (ROOT / "docs" / "reference" / "faults.md").read_text().splitlines()[0]
