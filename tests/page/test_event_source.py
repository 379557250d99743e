"""A browser's own EventSource on a stream in the background, whose web worker is killed in mid-stream."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.servers import Server
from tests.support.waiting import until

WORDS = " ".join(f"w{number}" for number in range(60))
READ = """async ([script, at]) => {
  const body = {model: "demo", background: true, messages: [{role: "user", content: script}]};
  const begun = await fetch("api/chat", {method: "POST", body: JSON.stringify(body)});
  const {link} = await begun.json();
  window.told = {status: begun.status, text: "", opened: 0, ended: 0, closed: false, begun: false};
  const source = new EventSource(link);
  source.onopen = () => { window.told.opened += 1; };
  source.onmessage = (event) => {
    const record = JSON.parse(event.data);
    window.told.text += record.message.content;
    window.told.ended += record.done;
    window.told.begun = window.told.text.includes(at);
  };
  source.onerror = () => { window.told.closed = source.readyState === EventSource.CLOSED; };
}"""


def test_a_native_event_source_has_the_whole_text(start_server: Callable[..., Server], open_tab: Callable[..., Any]):
    server = start_server({"WEB_CONCURRENCY": "2"})
    page = open_tab(server).page
    page.evaluate(READ, [f"!rate:20 {WORDS}", "w9 "])
    until(lambda: page.evaluate("window.told.begun"), 60, "the answer has begun")
    for pid in server.web_workers():
        os.kill(pid, signal.SIGKILL)
    # It comes back, gets the rest, and its next try is answered with a 204, which ends its tries.
    until(lambda: page.evaluate("window.told.closed"), 60, "the browser has stopped its tries")
    told = page.evaluate("window.told")
    assert (told["status"], told["text"], told["ended"]) == (202, f"{WORDS} ", 1)
    assert told["opened"] >= 2


@pytest.mark.parametrize("transport", ["ndjson", "sse", "eventsource"])
def test_the_page_cuts_a_connection_and_takes_the_answer_up_again(
    server: Server, open_tab: Callable[..., Any], transport: str
):
    tab = open_tab(server)
    tab.sees("#link-text", "Connected")
    tab.page.check(f"[value={transport}]")
    tab.ask(f"!rate:20 {WORDS}")
    tab.sees(".turn", "w0 w1 ")
    tab.page.click("#cut")
    tab.page.click(".turn button:has-text('Resume')")
    tab.sees(".turn", "w0 w1 w2 ")
    tab.sees(".turn:last-child", " ".join(f"w{number}" for number in range(60)))
