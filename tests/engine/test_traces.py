"""One trace through client, web worker, queue and vLLM, on the real engine."""

from __future__ import annotations

import httpx
import pytest

from tests.support.collector import CLIENT, PARENT, TRACE, Collector
from tests.support.servers import Server
from tests.support.waiting import VLLM_SECONDS

pytestmark = pytest.mark.engine


def test_a_trace_goes_through_the_web_worker_and_the_queue_into_vllm(two_models: Server, collector: Collector):
    asked = {"model": "plain", "input": "What is vllm-wsgi?", "max_output_tokens": 5}
    answer = httpx.post(f"{two_models.url}/v1/responses", json=asked, headers=CLIENT, timeout=VLLM_SECONDS)
    assert answer.status_code == 200
    # Other tests have been traced, too.
    ours, theirs = collector.span("POST /v1/responses", TRACE), collector.span("llm_request", TRACE)
    assert (ours["parent"], theirs["parent"]) == (PARENT, ours["id"])
    assert ours["gen_ai.usage.output_tokens"] == theirs["gen_ai.usage.completion_tokens"] == 5
    assert ours["vllm_wsgi.queue_seconds"] >= theirs["gen_ai.latency.time_in_queue"]
    assert ours["vllm_wsgi.first_token_seconds"] > 0
