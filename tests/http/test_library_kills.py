"""An engine host that is killed while clients change its models."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.library import WEIGHTS, create, delete, names, upload
from tests.support.servers import Server
from tests.support.waiting import one_is_done, until


def test_a_host_that_is_killed_while_models_change_loses_none_that_it_had_promised(http: httpx.Client, library: Server):
    """Every creation that was answered is there, whole; every deletion that was answered has happened."""
    promised: dict[str, bool] = {}

    def change(number: int) -> None:
        name = f"kill-{number}:latest"
        with httpx.Client(base_url=library.url, timeout=120) as client:
            for _ in range(200):
                try:
                    made = create(client, name, system=f"I am {number}.", stream=False)
                    promised[name] = made.status_code == 200
                    if not promised[name]:
                        return
                    # From here on it may be gone, whether the answer comes or not.
                    promised[name] = False
                    if delete(client, name).status_code != 200:
                        return
                    create(client, name, system=f"I am {number}.", stream=False).raise_for_status()
                    promised[name] = True
                except httpx.HTTPError:
                    return

    (host,) = library.engine_hosts()
    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(change, number) for number in range(4)]
        until(lambda: len(promised) == 4, 120, "models change", one_is_done(changes))
        os.kill(host, signal.SIGKILL)
        for each in changes:
            each.result()
    until(lambda: library.engine_hosts() and library.serves(), 120, "another host serves")
    here = names(http)
    assert {name for name, there in promised.items() if there} <= here
    for name in here - {"demo:latest"}:
        assert http.post("/api/show", json={"model": name}).json()["system"] == f"I am {name[5]}."


def test_a_model_that_can_not_be_described_ends_no_start_and_can_be_deleted(http: httpx.Client, library: Server):
    content = b'{"model_type": "planted"}'
    files = upload(http, WEIGHTS | {"config.json": content})
    assert http.post("/api/create", json={"model": "planted", "files": files, "stream": False}).status_code == 200
    (config,) = (path for path in library.directory.rglob("config.json") if path.read_bytes() == content)
    config.unlink()
    config.write_text('{"text_config": 5}')
    (host,) = library.engine_hosts()
    os.kill(host, signal.SIGKILL)
    until(lambda: library.engine_hosts() not in ([host], []) and library.models(), 120, "another host serves")
    assert names(http) == {"demo:latest"}
    (left_out,) = http.get("/api/status").json()["vllm_wsgi"]["left_out"]
    assert (left_out["name"], "text_config" in left_out["reason"]) == ("planted:latest", True)
    assert "planted:latest is left out: " in library.output
    assert http.post("/api/show", json={"model": "planted"}).status_code == 404
    assert [delete(http, "planted").status_code, delete(http, "planted").status_code] == [200, 404]
    assert http.get("/api/status").json()["vllm_wsgi"]["left_out"] == []
