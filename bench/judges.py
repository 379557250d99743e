"""The load generators that users know, against each server: `vllm bench serve` and guidellm, with their own figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from .model import DEMO, NAME
from .servers import ROOT, HttpSide

STREAMS, TOKENS, REQUESTS = 64, 128, 256
JUDGE_SECONDS = 300.0
# `make test-agents` and `make bench` install it there, since it brings a torch of its own.
GUIDELLM = ROOT / ".venv-agents" / "bin" / "guidellm"


class Verdict(msgspec.Struct):
    """What a judge found on one side. Times are in milliseconds; `first` and `gap` have p50 and p99."""

    judge: str
    side: str
    rate: float
    first: dict[str, float]
    gap: dict[str, float]


def verdicts(sides: list[HttpSide], directory: Path, report: Callable[[str], object]) -> Iterator[Verdict]:
    """Have each judge measure each side at `STREAMS` streams. A judge that fails is left out, and reported."""
    judges = [vllm_bench] + ([guidellm] if GUIDELLM.exists() else [])
    for judge in judges:
        for side in sides:
            report(f"{judge.__name__}: {side.name}")
            try:
                yield judge(side, directory)
            except (subprocess.SubprocessError, KeyError) as error:
                report(f"left out: {error}")


def vllm_bench(side: HttpSide, directory: Path) -> Verdict:
    """Return what `vllm bench serve` finds. Raises SubprocessError, and KeyError for a report of another form."""
    run(
        directory, sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai-chat",
        "--base-url", url(side), "--endpoint", "/v1/chat/completions", "--model", NAME, "--tokenizer", str(DEMO),
        "--dataset-name", "random", "--random-input-len", "20", "--random-output-len", str(TOKENS), "--temperature",
        "0", "--num-prompts", str(REQUESTS), "--max-concurrency", str(STREAMS), "--ignore-eos", "--disable-tqdm",
        "--save-result", "--result-dir", str(directory), "--result-filename", "vllm-bench.json",
    )  # fmt: skip
    found = json.loads((directory / "vllm-bench.json").read_text())
    first = {"p50": found["median_ttft_ms"], "p99": found["p99_ttft_ms"]}
    gap = {"p50": found["median_itl_ms"], "p99": found["p99_itl_ms"]}
    return Verdict("vllm bench serve", side.name, found["output_throughput"], first, gap)


def guidellm(side: HttpSide, directory: Path) -> Verdict:
    """Return what guidellm finds. Raises SubprocessError, and KeyError for a report of another form.

    Its inter-token latency is one mean for each answer, so that its p99 is of answers, not of gaps.
    """
    path = directory / "guidellm.json"
    run(
        directory, str(GUIDELLM), "run", "--disable-console",
        "--backend", f"kind=openai_http,target={url(side)},model={NAME}",
        "--profile", f"kind=concurrent,streams={STREAMS}",
        "--constraint", f"kind=max_requests,count={REQUESTS}",
        "--tokenizer", f"kind=huggingface_auto,model={DEMO}",
        "--data", f"kind=synthetic_text,prompt_tokens=20,output_tokens={TOKENS}",
        "--output", f"kind=json,path={path}",
    )  # fmt: skip
    metrics = json.loads(path.read_text())["benchmarks"][0]["metrics"]
    rate = metrics["output_tokens_per_second"]["successful"]["mean"]
    first, gap = (_percentiles(metrics[name]) for name in ("time_to_first_token_ms", "inter_token_latency_ms"))
    return Verdict("guidellm", side.name, rate, first, gap)


def _percentiles(metric: dict[str, Any]) -> dict[str, float]:
    found = metric["successful"]["percentiles"]
    return {name: found[name] for name in ("p50", "p99")}


def url(side: HttpSide) -> str:
    return f"http://127.0.0.1:{side.port}"


def run(directory: Path, *command: str) -> None:
    """Raises SubprocessError, after the judge's last words have been printed."""
    # The CPU build of vLLM has another distribution name than its command line looks for.
    env = os.environ | {"PYTHONPATH": str(directory / "distributions"), "PYTHONWARNINGS": "ignore"}
    try:
        subprocess.run(command, check=True, cwd=ROOT, env=env, timeout=JUDGE_SECONDS, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        print(error.stdout[-500:], error.stderr[-2000:], file=sys.stderr)
        raise
