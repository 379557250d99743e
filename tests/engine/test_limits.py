"""A key's limits in vLLM with the demo model, asked over the queue as a web worker does."""

from __future__ import annotations

import psutil
import pytest

from service.auth import KEY, Key
from service.client import Client
from service.errors import BadRequest
from service.messages import Caller, Finished, Request, Sampling, Text
from tests.servers import Server

pytestmark = pytest.mark.engine


def queue(server: Server) -> Client:
    host = psutil.Process(server.engine_hosts()[0])
    return Client(host.environ()["VLLM_WSGI_ENGINE_SOCKET"], heartbeat=10)


def ask(server: Server, caller: Caller, max_tokens: int | None = None) -> Finished:
    """The end of an answer that would be long."""
    prompt = Text("What is the capital of France? Tell me more.")
    request = Request("demo", prompt, Sampling(max_tokens=max_tokens, ignore_eos=True))
    events = [event for batch in queue(server).submit([request], {KEY: Key(caller)}).batches() for event in batch]
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.mark.parametrize(("wanted", "given"), [(None, 3), (100, 3), (2, 2)])
def test_an_answer_ends_at_the_keys_limit_or_its_own(engine_server: Server, wanted: int | None, given: int) -> None:
    finished = ask(engine_server, Caller("a", priority=-7, max_output_tokens=3), wanted)
    assert (finished.reason, finished.output_tokens) == ("length", given)


def test_a_prompt_over_the_keys_limit_is_refused_by_its_tokens(engine_server: Server) -> None:
    tokens = ask(engine_server, Caller("a", max_prompt_tokens=1000), 1).prompt_tokens
    with pytest.raises(BadRequest, match=f"the prompt has {tokens} tokens, and may have {tokens - 1}"):
        ask(engine_server, Caller("a", max_prompt_tokens=tokens - 1))


def test_more_requests_than_the_engine_takes_at_once_are_all_answered(engine_server: Server) -> None:
    requests = [Request("demo", Text(f"{number}"), Sampling(max_tokens=2, ignore_eos=True)) for number in range(300)]
    events = [event for batch in queue(engine_server).submit(requests, {}).batches() for event in batch]
    assert sum(isinstance(event, Finished) for event in events) == 300
