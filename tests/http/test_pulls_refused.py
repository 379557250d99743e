"""Pulls that are refused: an unknown repository, a wrong token, no weights, a hub that does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.engine.hub.pulls import Hub
from service.errors import BadRequest, ModelNotFound, Unavailable
from tests.support.hub import LoopbackHub
from tests.support.loop import in_loop
from tests.support.pulls import DEMO, NAME, pulled

# vLLM brings it; the rest of tests/http runs without.
pytest.importorskip("huggingface_hub")


@in_loop
async def test_what_the_hub_does_not_have_is_not_found(origin: LoopbackHub):
    with pytest.raises(ModelNotFound, match="no repository 'org/nothing'"):
        await pulled(Hub(), "org/nothing")
    with pytest.raises(ModelNotFound, match="'org/demo' has no revision 'v2'"):
        await pulled(Hub(), NAME, "v2")


@pytest.mark.parametrize(("gated", "complaint"), [(True, "gated"), (False, "none that this server's token opens")])
@in_loop
async def test_a_token_opens_what_is_closed(
    origin: LoopbackHub, monkeypatch: pytest.MonkeyPatch, gated: bool, complaint: str
):
    origin.commit("org/closed", DEMO, token="hf_right", gated=gated)
    for token in ("", "hf_wrong"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(ModelNotFound, match=complaint) as refused:
            await anext(Hub().pull("org/closed"))
        assert "hf_" not in refused.value.message
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (await pulled(Hub(), "org/closed")).downloaded


@in_loop
async def test_a_repository_without_weights_is_refused(origin: LoopbackHub, tmp_path: Path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("{}")
    origin.commit("org/text", tmp_path / "text")
    with pytest.raises(BadRequest, match="holds no weights"):
        await pulled(Hub(), "org/text")


@in_loop
async def test_a_hub_that_is_not_there_is_unavailable(origin: LoopbackHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="can't be reached"):
        await pulled(Hub())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE"):
        await pulled(Hub())


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../b", "-x", "a/-b", "a/b/c", "a--b/c", "a b", "a\n", "/etc"])
@in_loop
async def test_what_is_no_repository_reaches_neither_a_command_line_nor_a_path(name: str):
    with pytest.raises(BadRequest, match="not a valid repository name"):
        await pulled(Hub(), name)
    with pytest.raises(BadRequest, match="not a valid repository name"):
        Hub().directory(name)


@pytest.mark.parametrize("revision", ["", "..", "../main", "a/../b", "/main", "-x", "a\n", "a b", "x" * 201])
@in_loop
async def test_what_is_no_revision_is_refused(revision: str):
    with pytest.raises(BadRequest, match="not a valid revision"):
        await Hub().remove(NAME, revision)
    with pytest.raises(BadRequest, match="not a valid revision"):
        await pulled(Hub(), NAME, revision)
