from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from bench.claims import PAGE, written
from bench.results import Results

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def results() -> Results:
    return msgspec.json.decode((ROOT / "bench" / "results.json").read_bytes(), type=Results)


def test_the_page_has_the_ratios_of_the_last_results(results: Results):
    page = PAGE.read_text()
    assert written(page, results) == page, "run make bench, or bench.claims.written"


def test_the_readme_quotes_no_ratio():
    """The ratios are on the page, which `make bench` writes."""
    assert not re.search(r"\d\.\d+ (of|times)", (ROOT / "README.md").read_text())
