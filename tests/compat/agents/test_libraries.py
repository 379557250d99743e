"""Libraries for agents, and a benchmark, as they ship, in an environment of their own.

A program in clients/ does what their users do and prints what came out; here that is compared.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT, Server, clean_environment

BIN = ROOT / ".venv-agents" / "bin"
CLIENTS = Path(__file__).parent / "clients"
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OPENAI_AGENTS_DISABLE_TRACING": "1"}

pytestmark = pytest.mark.skipif(not BIN.exists(), reason=".venv-agents is not installed: `make test-agents` does it")


def run(*command: str) -> str:
    """What the program prints; imports alone take a busy machine half a minute."""
    ended = subprocess.run(command, env=clean_environment(QUIET), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


def read(program: str, url: str) -> dict[str, Any]:
    return dict(json.loads(run(str(BIN / "python"), str(CLIENTS / program), url).splitlines()[-1]))


def test_agents_call_tools_take_their_results_up_and_go_on_after_a_broken_call(server: Server):
    ended = read("run_agents.py", server.url)
    assert ended.pop("smolagents") == {"answer": "sunny", "seen": "sunny-in-Paris"}
    assert {turn["answer"].strip() for turn in ended.values()} == {"It-is sunny-in-Paris"}
    assert all(turn["second"].startswith("It-failed: ") for turn in ended.values()), ended


def test_guidellm_measures_the_server(server: Server, tmp_path: Path):
    run(
        str(BIN / "guidellm"), "run", "--disable-console",
        "--backend", f"kind=openai_http,target={server.url},model=demo",
        "--profile", "kind=synchronous",
        "--constraint", "kind=max_requests,count=2",
        "--tokenizer", f"kind=huggingface_auto,model={ROOT / 'models/demo'}",
        "--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=8",
        "--output", f"kind=json,path={tmp_path / 'report.json'}",
    )  # fmt: skip
    (benchmark,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    assert benchmark["metrics"]["request_totals"] == {"successful": 2, "errored": 0, "incomplete": 0, "total": 2}
