"""Read a stream with httpx-sse, and come back when it breaks, as its documentation has it under "Reconnections".

    python follow_httpx_sse.py URL SCRIPT MARK

"begun" is printed when the text has MARK, and at last what was read, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import httpx
from httpx_sse import connect_sse

url, script, mark = sys.argv[1:]
body = {"model": "demo", "messages": [{"role": "user", "content": script}], "background": True}
told: dict[str, Any] = {"text": "", "ended": 0, "opened": 0}
last_id, pause = "", 0.0
with httpx.Client(base_url=url, timeout=120) as client:
    link = client.post("/api/chat", json=body).json()["link"]
    while not told["ended"]:
        time.sleep(pause)
        try:
            with connect_sse(client, "GET", link, headers={"Last-Event-ID": last_id}) as source:
                source.response.raise_for_status()
                told["opened"] += 1
                for event in source.iter_sse():
                    last_id, pause = event.id, (event.retry or 0) / 1000 or pause
                    if not event.data:
                        continue
                    record, had = event.json(), mark in told["text"]
                    told["text"] += record["message"]["content"] if "message" in record else f"error: {record}"
                    told["ended"] += bool(record.get("done") or "error" in record)
                    if not had and mark in told["text"]:
                        print("begun", flush=True)
        except httpx.TransportError:
            pass
    told["last"] = client.get(link, headers={"Accept": "text/event-stream", "Last-Event-ID": last_id}).status_code
print(json.dumps(told))
