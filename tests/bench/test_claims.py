from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from bench.claims import PAGE, claims_table, written
from bench.results import Results

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def results() -> Results:
    return msgspec.json.decode((ROOT / "bench" / "results.json").read_bytes(), type=Results)


def test_the_page_has_the_ratios_of_the_last_results(results: Results):
    page = PAGE.read_text()
    assert written(page, results) == page, "run make bench, or bench.claims.written"


def test_the_readme_claims_what_was_measured(results: Results):
    """The two ratios that it quotes: front-end CPU, and the p99 gap, of 64 streams and more with short prompts."""
    row = next(line for line in claims_table(results).splitlines() if "| 64–256 |" in line)
    cpu, gap = (_rounded(row.split(" | ")[column], digits) for column, digits in ((2, 2), (6, 1)))
    readme = (ROOT / "README.md").read_text()
    assert f"cost {cpu} of the front-end CPU" in readme
    assert f"{gap} times as long" in readme


def _rounded(cell: str, digits: int) -> str:
    """Return the cell as a sentence has it: "2.47–3.67" with one digit is "2.5 to 3.7"."""
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.{digits}f}", cell).replace("–", " to ")
