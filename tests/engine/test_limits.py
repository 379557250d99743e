"""A key's limits in vLLM with the demo model, asked over the queue as a web worker does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from service.engine_client.client import Client
from service.engine_client.disconnect import Presence
from service.errors import BadRequest
from service.protocol.events import Delta, Finished
from service.protocol.request import Caller, Request, Sampling, Text
from tests.support.servers import Server

pytestmark = pytest.mark.engine


def queue(server: Server) -> Client:
    host = psutil.Process(server.engine_hosts()[0])
    return Client(host.environ()["VLLM_WSGI_ENGINE_SOCKET"], heartbeat=10)


def ask(server: Server, caller: Caller, max_tokens: int | None = None) -> Finished:
    """The end of an answer that would be long."""
    prompt = Text("What is the capital of France? Tell me more.")
    request = Request("demo", prompt, Sampling(max_tokens=max_tokens, ignore_eos=True), caller=caller)
    events = [event for batch in queue(server).submit([request], Presence()).batches() for event in batch]
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
    events = [event for batch in queue(engine_server).submit(requests, Presence()).batches() for event in batch]
    assert sum(isinstance(event, Finished) for event in events) == 300


def test_who_comes_last_with_the_lowest_priority_number_ends_first_and_all_have_their_tokens(
    two_models: Server,
) -> None:
    """`plain` has a cache for one and a bit of these answers."""
    client, begun, ends = queue(two_models), threading.Semaphore(0), list[tuple[str, int]]()

    def long(name: str, priority: int) -> None:
        sampling = Sampling(max_tokens=450, ignore_eos=True)
        request = Request("plain", Text(name), sampling, caller=Caller(name, priority))
        for batch in client.submit([request], Presence()).batches():
            for event in batch:
                if isinstance(event, Delta) and event.seq == 0:
                    begun.release()
                if isinstance(event, Finished):
                    ends.append((name, event.output_tokens))

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(long, name, 0) for name in ("first", "second")]
        for each in asked:
            # A stream that fails counts as begun, so that its error is raised at once.
            each.add_done_callback(lambda _: begun.release())
        assert all(begun.acquire(timeout=120) for _ in asked)
        for each in asked:
            assert not each.done() or each.result() is None
        asked.append(pool.submit(long, "last", -1))
        assert [each.result() for each in asked] == [None] * 3
    assert ends[0][0] == "last"
    assert sorted(ends) == [("first", 450), ("last", 450), ("second", 450)]
