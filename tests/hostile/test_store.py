"""Files that lie in the store, with whatever in them: no start ends, nothing is read or run that leads elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, Forbidden, ModelNotFound, ResponseNotFound, SettingsError
from service.protocol.commands import Create, Delete, FetchResponse, ListLoaded, ShowModel, StoreResponse
from service.protocol.events import StoredResponse
from service.protocol.model_info import Recipe
from tests.hostile.documents import documents
from tests.hostile.site import BAD_CONFIGS, DEEP, Site, site, weights


def planted(there: Site, config: bytes = b"{}") -> Path:
    """A model whose configuration is damaged after it was made."""
    assert there.create({"config.json": b"{}", "model.safetensors": weights()})
    (path,) = there.store.glob("files/*/config.json")
    path.unlink()
    path.write_bytes(config)
    return path


# What is not JSON at all leaves its part open, in the files of models that are there already.
DAMAGED = [
    config for config in BAD_CONFIGS if config[:1] in (b"{", b"[") and config != b"{" and b"9" * 5000 not in config
]


@pytest.mark.parametrize("config", DAMAGED, ids=range(len(DAMAGED)))
def test_a_model_that_can_not_be_described_ends_no_start_and_can_be_deleted(
    config: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with site() as there:
        planted(there, config)
        there.restart()
        assert there.names() == {"declared:latest"}
        assert there.left_out().keys() == {"planted:latest"}
        assert "planted:latest is left out: " in caplog.text
        with pytest.raises(ModelNotFound):
            there.do(ShowModel(1, "planted"))
        there.do(Delete(1, "planted"))
        assert (there.left_out(), there.tree()) == ({}, set())
        there.restart()
        assert there.left_out() == {}


def test_a_model_that_is_left_out_can_be_made_anew() -> None:
    with site() as there:
        planted(there, BAD_CONFIGS[0])
        there.restart()
        assert there.create({"config.json": b'{"model_type":"good"}', "model.safetensors": weights()})
        assert (there.left_out(), there.show("planted").model.architecture) == ({}, "good")


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"{", b"[" * DEEP, b'{"a":' * DEEP, b"\xff", b"5", b'{"name":5,"made_at":0}',
        b'{"name":"other","made_at":0}',
        b'{"name":"planted:latest","made_at":"x"}', b'{"name":"planted:latest","made_at":0,"options":{"top_k":"x"}}',
        b'{"name":"planted:latest","made_at":0,"files":{"config.json":"x"}}', b'{"name":"planted:latest","made_at":0}',
        b'{"name":"planted:latest","made_at":0,"declared":"gone"}',
        b'{"name":"planted:latest","made_at":0,"declared":"\\u0000"}',
        b'{"name":"planted:latest","made_at":0,"repository":"../../etc","revision":"main"}',
        b'{"name":"planted:latest","made_at":0,"repository":"org/gone","revision":"abc"}',
        b'{"name":"planted:latest","made_at":0,"options":{"seed":' + b"9" * 40 + b"}}",
    ],
)  # fmt: skip
def test_a_manifest_of_any_kind_ends_no_start_and_can_be_deleted(manifest: bytes) -> None:
    with site() as there:
        path = there.store / "manifests" / "registry.ollama.ai" / "library" / "planted" / "latest.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(manifest)
        there.restart()
        assert (there.names(), there.left_out().keys()) == ({"declared:latest"}, {"planted:latest"})
        there.do(Delete(1, "planted"))
        assert (there.left_out(), path.exists()) == ({}, False)


@given(st.binary(max_size=80) | documents.map(lambda value: json.dumps(value).encode()))
def test_a_stored_response_of_any_kind_is_one_or_is_not_there(content: bytes) -> None:
    name = "resp_" + "0" * 24
    with site() as there:
        path = there.store / "responses" / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with suppress(ResponseNotFound):
            assert isinstance(there.do(FetchResponse(1, name, ""))[0], StoredResponse)
        there.do(StoreResponse(1, "resp_" + "1" * 24, "", b"{}"))


def test_a_damaged_declaration_of_the_operators_is_left_out_too(tmp_path: Path) -> None:
    there = Site(tmp_path)
    (tmp_path / "declared" / "config.json").write_bytes(BAD_CONFIGS[0])
    there.restart()
    assert (there.names(), there.left_out().keys()) == (set(), {"declared:latest"})
    with pytest.raises(Forbidden):
        there.do(Delete(1, "declared"))


toml = st.sampled_from(
    [
        "engine_args = { a = 1979-05-27 }", "engine_args = { a = nan }", 'engine_args = { max_model_len = "x" }',
        "engine_args = { max_model_len = 99999999999999999999999 }", "engine_args = { limit_mm_per_prompt = 5 }",
        'engine_args = { kv_cache_memory_bytes = "x" }', "engine_args = {}", "kv = { kv_cache_memory_bytes = 1 }",
        "memory = 99999999999999999999999", "keep_alive = nan", "pinned = true", "pinned = 1",
        "options = { top_k = 1 }", "options = { stop = [1] }", "options = 5", "template = 5", "a = " + "[" * DEEP,
        "a = " + "9" * 100_000, 'system = "\\u0000"', 'reasoning_parser = "none"',
    ]
)  # fmt: skip


@given(st.lists(toml, max_size=3, unique=True) | st.text(max_size=60).map(lambda text: [text]))
def test_a_models_toml_of_any_kind_is_refused_with_a_sentence_or_served(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        there = Site(Path(name))
        path = Path(name) / "models.toml"
        path.write_text("\n".join(["[models.one]", 'source = "declared"', *lines]), encoding="utf-8", newline="")
        try:
            there.restart(models=str(path))
        except SettingsError as error:
            assert str(path) in error.message  # noqa: PT017
            return
        assert there.names() | there.left_out().keys() == {"one:latest"}
        there.do(ListLoaded(1))


# --- where nothing leads ---------------------------------------------------------------------------------


def secret(directory: Path) -> Path:
    path = directory / "secret.json"
    path.write_text('{"model_type":"secret"}')
    return path


def test_a_symbolic_link_in_place_of_a_blob_is_not_a_blob(tmp_path: Path) -> None:
    there = Site(tmp_path)
    files = there.upload({"config.json": b"{}", "model.safetensors": weights()})
    blob = there.store / "blobs" / files["config.json"].replace(":", "-")
    blob.unlink()
    blob.symlink_to(secret(tmp_path))
    with pytest.raises(BadRequest, match="not found"):
        there.do(Create(1, "planted", Recipe(files=files)))
    assert there.names() == {"declared:latest"}


@pytest.mark.parametrize("whole", [False, True])
def test_a_symbolic_link_in_a_models_files_leads_nowhere(tmp_path: Path, whole: bool) -> None:
    there = Site(tmp_path)
    assert there.create({"config.json": b'{"model_type":"good"}', "model.safetensors": weights()})
    (directory,) = there.store.glob("files/*")
    if whole:
        shutil.move(directory, tmp_path / "moved")
        (tmp_path / "moved" / "config.json").unlink()
        (tmp_path / "moved" / "config.json").write_text('{"model_type":"secret"}')
        directory.symlink_to(tmp_path / "moved")
    else:
        (directory / "config.json").unlink()
        (directory / "config.json").symlink_to(secret(tmp_path))
    there.restart()
    assert there.show("planted").model.architecture == "good"
    assert secret(tmp_path).exists()


def test_a_symbolic_link_in_place_of_a_manifest_or_a_response_is_not_read(tmp_path: Path) -> None:
    there = Site(tmp_path)
    assert there.create({"config.json": b"{}", "model.safetensors": weights()})
    (manifest,) = there.store.rglob("latest.json")
    shutil.move(manifest, tmp_path / "elsewhere.json")
    manifest.symlink_to(tmp_path / "elsewhere.json")
    response = there.store / "responses" / ("resp_" + "0" * 24 + ".json")
    response.parent.mkdir()
    (tmp_path / "response.json").write_text('{"owner":"","stored":{}}')
    response.symlink_to(tmp_path / "response.json")
    there.restart()
    assert (there.names(), there.left_out().keys()) == ({"declared:latest"}, {"planted:latest"})
    with pytest.raises(ResponseNotFound):
        there.do(FetchResponse(1, response.stem, ""))
    there.do(Delete(1, "planted"))
    assert (tmp_path / "elsewhere.json").exists()


def test_code_that_a_configuration_names_is_not_run_and_nothing_is_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", url)
        there = Site(tmp_path)
        mark = tmp_path / "ran"
        config = {
            "model_type": "x", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": f"{url}/evil--evil.Model"},
            "_name_or_path": f"{url}/model", "tokenizer_class": "evil.Tokenizer",
        }  # fmt: skip
        template = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% include '/etc/passwd' %}"
        code = there.upload({"evil.py": f"open({str(mark)!r}, 'w')".encode()})
        with pytest.raises(BadRequest, match=r"evil\.py"):
            there.do(Create(1, "planted", Recipe(files={"config.json": "", "model.safetensors": "", **code})))
        made = there.create(
            {
                "config.json": json.dumps(config).encode(),
                "model.safetensors": weights(),
                "chat_template.jinja": template.encode(),
                "tokenizer_config.json": json.dumps({"auto_map": config["auto_map"]}).encode(),
            }
        )
        assert made
        assert there.show("planted").model.template == template
        with pytest.raises(ModelNotFound):
            there.do(Create(1, "other", Recipe(base=f"{url.removeprefix('http://')}/a/b")))
        with pytest.raises(BadRequest):
            there.do(Create(1, "other", Recipe(base=url)))
        assert not mark.exists()
        assert os.environ["HF_ENDPOINT"] == url
        with pytest.raises(BlockingIOError):
            listener.accept()
