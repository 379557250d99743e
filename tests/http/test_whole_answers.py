"""Many whole answers with log probabilities at once: other keys are answered, and memory has a bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.keys import table
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

# An answer may have so many log probabilities, and all of a key's four times as many.
MOST = 100
ROUTES: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": "{}", "raw": True, "stream": False, "logprobs": True},
    "/v1/completions": {"prompt": "{}", "logprobs": 0, "max_tokens": 90},
    "/v1/responses": {"input": "{}", "include": ["message.output_text.logprobs"], "max_output_tokens": 90},
}


def body(path: str, script: str) -> dict[str, Any]:
    return {"model": "demo", **{name: script if value == "{}" else value for name, value in ROUTES[path].items()}}


@pytest.mark.parametrize("path", ROUTES)
def test_whole_answers_take_only_their_keys_part_of_the_room(tmp_path: Path, pool: ThreadPoolExecutor, path: str):
    keys, ends = tmp_path / "keys.toml", tmp_path / "ends"
    keys.write_text(table("attacker", "inference", "observe") + table("victim", "inference"))
    env = {"VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_MAX_LOGPROBS": str(MOST)}
    server = Server(tmp_path, {**SCRIPTED, **env})
    server.headers = {"Authorization": "Bearer attacker"}
    try:
        server.wait_until_ready()

        def ask(key: str, script: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.post(f"{server.url}{path}", json=body(path, script), headers=headers, timeout=120)

        held = [pool.submit(ask, "attacker", f"!repeat:90:a !until:{ends}") for _ in range(5)]
        # Four hold ninety each. The fifth would hold more than the key's part.
        until(lambda: any(each.done() for each in held), 60, "an answer is refused")
        (refused,) = (each.result() for each in held if each.done())
        assert refused.status_code == 429
        assert "VLLM_WSGI_MAX_LOGPROBS, times 8, allows 800 for all keys" in refused.text
        assert ask("victim", "!repeat:80:a").status_code == 200
        ends.touch()
        assert sorted(each.result().status_code for each in held) == [200] * 4 + [429]
        assert ask("attacker", "!repeat:90:a").status_code == 200
    finally:
        server.stop()
