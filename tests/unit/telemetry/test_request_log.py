"""The lines of the request log: nobody can forge one, and nothing waits for their reader."""

from __future__ import annotations

import json
import logging
import os

import pytest

from service.telemetry.request_log import Lines, line
from service.telemetry.request_stats import MAX_NAME, RequestStats

HOSTILE = 'x"}\n{"status": 200}\r\u0085\u2028\u009b31m\x1b[2J\\'


def test_whatever_a_client_names_is_one_line_of_ascii():
    stats = RequestStats("/api/chat")
    stats.model = HOSTILE * 100
    text = line(stats.ended(client=HOSTILE))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["model"] == (HOSTILE * 100)[:MAX_NAME]


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("", logging.INFO, "", 0, text, None, None)


def test_lines_that_nobody_takes_are_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("service.telemetry.request_log.PATIENCE_SECONDS", 0.01)
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb", buffering=0) as reader, os.fdopen(writes, "w") as writer:
        lines = Lines(writer)
        for number in range(1000):
            lines.emit(record(f"{number:1000}"))
        taken = len(reader.read(1 << 20).splitlines())
        assert 0 < taken < 1000
        lines.emit(record("again"))
        assert reader.read(100) == b"again\n"
    assert f"{1000 - taken} lines of the request log are lost" in caplog.text


def test_a_log_that_nobody_reads_any_more_breaks_nothing(capfd: pytest.CaptureFixture[str]):
    reads, writes = os.pipe()
    os.close(reads)
    writer = os.fdopen(writes, "w")
    Lines(writer).emit(record("a"))
    assert capfd.readouterr().err == ""
    with pytest.raises(BrokenPipeError):
        writer.close()
