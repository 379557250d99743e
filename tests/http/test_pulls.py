"""Pulls from a hub on loopback, with the real huggingface_hub in the real child process."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from service.engine.hub.pulls import Hub, Layer, Snapshot
from service.errors import Unavailable
from tests.support.hub import LoopbackHub
from tests.support.loop import in_loop
from tests.support.pulls import DEMO, HELD, KEPT, NAME, WEIGHTS, children, contents, held, pulled
from tests.support.waiting import until

# vLLM brings it; the rest of tests/http runs without.
pytest.importorskip("huggingface_hub")


@in_loop
async def test_a_pull_tells_every_layer_to_its_last_byte_and_leaves_what_the_hub_has(origin: LoopbackHub):
    records = [record async for record in Hub().pull(NAME)]
    layers = {record.digest: record for record in records if isinstance(record, Layer)}
    assert all(layer.completed == layer.total for layer in layers.values())
    snapshot = records[-1]
    assert isinstance(snapshot, Snapshot)
    assert snapshot.downloaded
    assert snapshot.size == sum(layer.total for layer in layers.values()) == sum(map(len, contents(DEMO).values()))
    assert contents(Path(snapshot.directory)) == contents(DEMO)
    assert Hub().directory(NAME) == Hub().directory(NAME, snapshot.commit) == Path(snapshot.directory)


@in_loop
async def test_what_is_there_is_not_downloaded_again(origin: LoopbackHub):
    first = await pulled(Hub())
    origin.requests.clear()
    second = await pulled(Hub())
    assert (second.directory, second.commit, second.downloaded) == (first.directory, first.commit, False)
    assert origin.requests == ["GET /api/models/org/demo/revision/main"]


@in_loop
async def test_a_download_that_is_killed_is_gone_on_with(origin: LoopbackHub):
    hub, origin.hold_at = Hub(), HELD
    async with aclosing(hub.pull(NAME)) as records:
        await held(records)
        children()[0].kill()
        with pytest.raises(Unavailable, match="pull again"):
            await held(records)
    assert hub.directory(NAME) is None
    origin.release()
    assert contents(Path((await pulled(hub)).directory)) == contents(DEMO)
    assert origin.begun == [0, KEPT]


@in_loop
async def test_a_download_ends_with_a_host_that_is_killed(origin: LoopbackHub):
    code = f"import asyncio; from service.engine.hub.pulls import Hub\nasync def pull():\n async for record in Hub().pull('{NAME}'): print(record, flush=True)\nasyncio.run(pull())"  # noqa: E501
    origin.hold_at = HELD
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout
        assert any(f"completed={KEPT}" in line for line in host.stdout)
        (child,) = psutil.Process(host.pid).children()
        host.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 120, "the download ends")
    origin.release()
    assert (await pulled(Hub())).downloaded
    assert origin.begun == [0, KEPT]


@in_loop
async def test_pulls_of_one_revision_share_a_download_and_who_comes_late_sees_how_far_it_is(origin: LoopbackHub):
    hub, origin.hold_at = Hub(), HELD
    async with aclosing(hub.pull(NAME)) as first, aclosing(hub.pull(NAME)) as late:
        await held(first)
        # What is true now comes at once, and nothing of what was true before.
        assert [record.completed for record in [await anext(late), await anext(late)]].count(KEPT) == 1
        assert len(children()) == 1
        origin.release()
        *_, one = [record async for record in first]
        *_, other = [record async for record in late]
    assert one == other
    assert origin.begun == [0]


@in_loop
async def test_the_download_goes_on_until_the_last_listener_leaves(origin: LoopbackHub):
    hub, origin.hold_at = Hub(), HELD
    async with aclosing(hub.pull(NAME)) as last:
        async with aclosing(hub.pull(NAME)) as first:
            await held(first)
            await held(last)
        assert len(children()) == 1
    assert children() == []
    assert hub.directory(NAME) is None


@in_loop
async def test_a_listener_that_is_cancelled_leaves(origin: LoopbackHub):
    hub, origin.hold_at = Hub(), HELD
    task = asyncio.create_task(pulled(hub))
    while not origin.begun:
        assert not task.done()
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    assert children() == []


@in_loop
async def test_a_slow_listener_holds_nobody_up_and_sees_the_newest_only(origin: LoopbackHub):
    hub = Hub()
    async with aclosing(hub.pull(NAME)) as slow:
        await anext(slow)
        await pulled(hub)
        records = [record async for record in slow]
    assert len(records) <= 4
    assert isinstance(records[-1], Snapshot)


@in_loop
async def test_while_a_branch_is_updated_it_stays_what_it_was(origin: LoopbackHub, tmp_path: Path):
    hub = Hub()
    old = await pulled(hub)
    shutil.copytree(DEMO, tmp_path / "new")
    (tmp_path / "new" / "model.safetensors").write_bytes(bytes(WEIGHTS))
    new, origin.hold_at = origin.commit(NAME, tmp_path / "new"), HELD
    async with aclosing(hub.pull(NAME)) as records:
        await held(records)
    assert hub.directory(NAME) == Path(old.directory)
    origin.release()
    assert (await pulled(hub)).commit == new
    assert hub.directory(NAME) == Path(old.directory).with_name(new)


@in_loop
async def test_what_was_spoilt_on_disk_is_noticed_and_begun_anew(origin: LoopbackHub, cache: Path):
    hub, origin.hold_at = Hub(), HELD
    async with aclosing(hub.pull(NAME)) as records:
        await held(records)
    partial = max(cache.rglob("*.incomplete"), key=lambda path: path.stat().st_size)
    partial.write_bytes(bytes(KEPT))
    origin.release()
    with pytest.raises(Unavailable, match=r"'model.safetensors' did not arrive"):
        await pulled(hub)
    assert contents(Path((await pulled(hub)).directory)) == contents(DEMO)


@in_loop
async def test_a_snapshot_that_lacks_a_file_is_not_complete(origin: LoopbackHub):
    snapshot = await pulled(Hub())
    (Path(snapshot.directory) / "config.json").unlink()
    assert Hub().directory(NAME) is None
    assert (await pulled(Hub())).commit == snapshot.commit
    assert Hub().directory(NAME) is not None


@in_loop
async def test_a_commit_is_removed_and_what_others_share_with_it_stays(origin: LoopbackHub, tmp_path: Path):
    hub = Hub()
    old = await pulled(hub)
    shutil.copytree(DEMO, tmp_path / "new")
    (tmp_path / "new" / "README.md").write_text("new")
    origin.commit(NAME, tmp_path / "new")
    origin.commit("org/twin", DEMO)
    new, twin = await pulled(hub), await pulled(hub, "org/twin")
    assert twin.commit == old.commit
    await hub.remove(NAME, old.commit)
    assert hub.directory(NAME, old.commit) is None
    assert contents(Path(new.directory)) == contents(tmp_path / "new")
    assert hub.directory("org/twin") == Path(twin.directory)


@in_loop
async def test_the_last_commit_takes_its_repository_along_but_not_while_it_is_pulled(origin: LoopbackHub, cache: Path):
    hub, origin.hold_at = Hub(), HELD
    async with aclosing(hub.pull(NAME)) as records:
        await held(records)
        with pytest.raises(Unavailable, match="is being pulled"):
            await hub.remove(NAME, "main")
    origin.release()
    await hub.remove(NAME, (await pulled(hub)).commit)
    assert not (cache / "models--org--demo").exists()
