"""Files that clients upload, with whatever in them: create is a 200 or a 400, and everything goes on afterwards.

The host is the real one, in this process: its handlers are called as the queue calls them, what they answer is encoded
and decoded as on the queue, and a restart is another host over the same store.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.config import Settings
from service.engine.host.host import Host
from service.errors import BadRequest, Forbidden, ModelNotFound, ResponseNotFound, SettingsError
from service.protocol.commands import (
    Command,
    Copy,
    Create,
    Delete,
    FetchResponse,
    ListLoaded,
    ListModels,
    PutBlob,
    ShowModel,
    StoreResponse,
)
from service.protocol.events import Event, Loaded, Models, Shown, StoredResponse
from service.protocol.model_info import Recipe
from service.protocol.wire import decode_command, decode_events, pack

DEEP = 200_000
CONFIG = {"model_type": "qwen2", "max_position_embeddings": 64}
TOKENIZER = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "c"}]}


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def weights(**tensors: Any) -> bytes:
    return safetensors(json.dumps(tensors or {"w": {"dtype": "BF16", "shape": [2, 3]}}).encode())


class Site:
    """A host over a store, with one model of the operator's."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        (directory / "declared").mkdir()
        (directory / "declared" / "config.json").write_text(json.dumps(CONFIG))
        (directory / "declared" / "model.safetensors").write_bytes(weights())
        self._settings = Settings(
            model=str(directory / "declared"), model_name="declared", store=str(self.store),
            engine_socket=str(directory / "engine.sock"), engine="scripted",
        )  # fmt: skip
        self.restart()

    def restart(self, **changes: Any) -> None:
        self._handlers = Host(replace(self._settings, **changes))._handlers

    def do(self, command: Command) -> list[Event]:
        """What the command brings, through the queue. Raises ServiceError."""

        async def collect() -> list[Event]:
            sent: Command = decode_command(pack(command)[4:])
            async with aclosing(self._handlers[type(sent)](sent)) as events:
                return [event async for event in events]

        return decode_events(pack(asyncio.run(collect()))[4:])

    def upload(self, files: dict[str, bytes]) -> dict[str, str]:
        digests = {path: f"sha256:{hashlib.sha256(data).hexdigest()}" for path, data in files.items()}
        for path, data in files.items():
            self.do(PutBlob(1, "0" * 32, digests[path], data, last=True))
        return digests

    def create(self, files: dict[str, bytes], name: str = "planted", **fields: Any) -> bool:
        """Whether the model was made; what else but a BadRequest refuses it fails the test."""
        try:
            self.do(Create(1, name, Recipe(files=self.upload(files), **fields)))
        except BadRequest:
            return False
        return True

    def names(self) -> set[str]:
        (models,) = self.do(ListModels(1))
        assert isinstance(models, Models)
        return {info.name for info in models.models}

    def left_out(self) -> dict[str, str]:
        (loaded,) = self.do(ListLoaded(1))
        assert isinstance(loaded, Loaded)
        return {model.name: model.reason for model in loaded.left_out}

    def show(self, name: str) -> Shown:
        (models,) = self.do(ShowModel(1, name))
        (shown,) = self.do(ShowModel(1, name, verbose=True))
        assert isinstance(models, Models)
        assert isinstance(shown, Shown)
        assert models.models == [shown.model]
        return shown

    def tree(self) -> set[str]:
        return {str(path.relative_to(self.store)) for path in self.store.rglob("*") if not path.is_dir()}


@contextmanager
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as directory:
        yield Site(Path(directory))


def assert_all_is_well(site: Site, made: bool, name: str = "planted") -> None:
    """List, show, copy, restart and delete: nothing fails, and nothing is left."""
    planted = {f"{name}:latest"} if made else set()
    for _ in range(2):
        assert site.names() == {"declared:latest"} | planted
        assert site.left_out() == {}
        site.show("declared")
        if made:
            site.show(name)
        site.restart()
    if made:
        site.do(Copy(1, name, "twin"))
        site.show("twin")
        for each in (name, "twin"):
            site.do(Delete(1, each))
    else:
        with pytest.raises(ModelNotFound):
            site.do(Delete(1, name))
    assert site.names() == {"declared:latest"}
    assert site.tree() == set()


# --- what was found --------------------------------------------------------------------------------------

BAD_CONFIGS = [
    b'{"model_type":"qwen2","text_config":5}',
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"model_type":"qwen2","max_position_embeddings":"x"}',
    b'{"model_type":"qwen2","max_position_embeddings":NaN}',
    b'{"model_type":"qwen2","max_position_embeddings":-1}',
    b'{"model_type":"qwen2","max_position_embeddings":' + b"9" * 40 + b"}",
    b'{"model_type":"qwen2","max_position_embeddings":' + b"9" * 100_000 + b"}",
    b'{"hidden_size":[1]}',
    b'{"num_attention_heads":["x"]}',
    b'{"model_type":5}',
    b'{"model_type":"\\ud800"}',
    b'{"architectures":5}',
    b'{"quantization_config":5}',
    b'{"quantization_config":{"quant_method":"\\udfff"}}',
    b'{"torch_dtype":"\\ud800"}',
    b"{",
    b"5",
    b"\xff\xfe",
    b"",
]
BAD_HEADERS = [
    b'{"w":' + b"[" * DEEP,
    b'{"w":{"dtype":"BF16","shape":["x"]}}',
    b'{"w":{"dtype":"BF16","shape":[99999999999999999999]}}',
    b'{"w":{"dtype":"BF16","shape":[-1]}}',
    b'{"w":{"dtype":"BF16","shape":[1.5]}}',
    b'{"w":{"dtype":"BF16","shape":[281474976710656,281474976710656]}}',
    b'{"w":{"dtype":"BF16","shape":' + json.dumps([2] * 1000).encode() + b"}}",
    b'{"w":{"dtype":5,"shape":[1]}}',
    b'{"w":5}',
    b'{"\xff":{"dtype":"BF16","shape":[1]}}',
]
OTHERS = {
    "generation_config.json": [b'{"temperature":NaN}', b'{"temperature":[1]}', b'{"top_k":"x"}', b'{"top_p":7}', b"{"],
    "tokenizer.json": [
        b'{"model":5}', b'{"model":{"vocab":{"a":1,"b":"x"}}}', b'{"added_tokens":[{"a":5}]}', b'{"added_tokens":5}',
        b'{"model":{"vocab":{"a":99999999999999999999}}}', b'{"a":' * DEEP, b'{"model":{"vocab":{"\xff":1}}}',
    ],
    "tokenizer_config.json": [
        b'{"chat_template":"\\ud800"}', b"[" * DEEP, b'{"chat_template":"' + b"a" * (2 << 20) + b'"}',
    ],
    "chat_template.jinja": [b"\xff\xfe", b"a" * (2 << 20)],
    "processor_config.json": [b"[" * DEEP, b"{"],
    "preprocessor_config.json": [b"[" * DEEP],
    "modules.json": [b"[" * DEEP, b"{"],
}  # fmt: skip


def refused(files: dict[str, bytes]) -> None:
    with site() as there:
        assert not there.create({"config.json": b"{}", "model.safetensors": weights()} | files)
        assert_all_is_well(there, made=False)


@pytest.mark.parametrize("config", BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_a_configuration_that_can_not_be_used_is_refused_and_leaves_nothing(config: bytes) -> None:
    refused({"config.json": config})


@pytest.mark.parametrize("header", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_weights_that_can_not_be_described_are_refused_and_leave_nothing(header: bytes) -> None:
    refused({"model.safetensors": safetensors(header)})


@pytest.mark.parametrize(
    ("name", "content"), [pytest.param(n, c, id=f"{n}-{i}") for n, each in OTHERS.items() for i, c in enumerate(each)]
)
def test_other_files_that_can_not_be_used_are_refused_and_leave_nothing(name: str, content: bytes) -> None:
    refused({name: content})


@pytest.mark.parametrize("rank", [b'{"r":1e999}', b'{"r":-5}', b'{"r":"8"}', b"[" * DEEP, b"{}", b"5", b'{"r":NaN}'])
def test_an_adapter_without_a_rank_is_refused_and_leaves_nothing(rank: bytes) -> None:
    with site() as there:
        files = there.upload({"adapter_config.json": rank, "adapter_model.safetensors": weights()})
        with pytest.raises(BadRequest):
            there.do(Create(1, "planted", Recipe("declared", adapters=files)))
        assert there.names() == {"declared:latest"}
        assert {path for path in there.tree() if not path.startswith("blobs/")} == set()


@pytest.mark.parametrize(
    "path",
    [
        "config.json/", "config.json/x.json", "./config.json", "a//b.json", "a/./b.json", "x" * 300 + ".json",
        "é" * 200 + ".json", "/".join(["a" * 200] * 10) + ".json", "../x.json", "/etc/x.json", "a/../../x.json", "",
        ".", "a/..", "x.json/" + "y" * 300,
    ],
)  # fmt: skip
def test_a_path_that_the_file_system_would_refuse_is_a_bad_request(path: str) -> None:
    with site() as there:
        assert not there.create({"config.json": b"{}", "model.safetensors": weights(), path: b"{ }"})
        assert {each for each in there.tree() if not each.startswith("blobs/")} == set()
        assert there.names() == {"declared:latest"}


def test_a_name_that_the_file_system_refuses_is_a_bad_request() -> None:
    with site() as there:
        for name in ("h" * 300 + ".org/a/b", "h" * 349 + "/a/b"):
            assert not there.create({"config.json": b"{}", "model.safetensors": weights()}, name)
            with pytest.raises(BadRequest):
                there.do(Copy(1, "declared", name))
        assert {each for each in there.tree() if not each.startswith("blobs/")} == set()


def test_a_model_that_replaces_another_leaves_it_as_it_was_where_it_is_refused() -> None:
    with site() as there:
        assert there.create({"config.json": b'{"model_type":"good"}', "model.safetensors": weights()})
        before = there.tree()
        assert not there.create({"config.json": b'{"text_config":5}', "model.safetensors": weights()})
        assert there.show("planted").model.architecture == "good"
        assert there.tree() == before


def test_a_blob_that_is_missing_leaves_the_others_for_the_next_try() -> None:
    with site() as there:
        files = there.upload({"config.json": b"{}", "model.safetensors": weights()})
        before = there.tree()
        with pytest.raises(BadRequest, match="not found"):
            there.do(Create(1, "planted", Recipe(files={**files, "tokenizer.json": "sha256:" + "0" * 64})))
        assert there.tree() == before


# --- whatever is in them ---------------------------------------------------------------------------------

keys = st.sampled_from(
    [
        "model_type", "text_config", "max_position_embeddings", "hidden_size", "num_hidden_layers", "vocab_size",
        "num_attention_heads", "num_key_value_heads", "architectures", "quantization_config", "quant_method", "dtype",
        "torch_dtype", "vision_config", "auto_map", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
        "max_new_tokens", "model", "vocab", "added_tokens", "id", "content", "chat_template", "image_processor",
        "image_processor_type", "type", "r", "shape", "data_offsets", "__metadata__",
    ]
) | st.text(max_size=4)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=8)
    | st.sampled_from(["BF16", "qwen2", "Qwen2ForCausalLM", "awq"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(keys, children, max_size=5),
    max_leaves=25,
)
documents = st.dictionaries(keys, values, max_size=8) | values
contents = documents.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
headers = contents.map(safetensors) | st.binary(max_size=60)
files = st.fixed_dictionaries(
    {"config.json": contents, "model.safetensors": headers},
    optional={
        "generation_config.json": contents,
        "tokenizer.json": contents,
        "tokenizer_config.json": contents,
        "chat_template.jinja": st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
        "processor_config.json": contents,
        "preprocessor_config.json": contents,
        "modules.json": contents,
        "model-2.safetensors": headers,
        "LICENSE": st.binary(max_size=60),
    },
)


@given(files)
def test_whatever_is_uploaded_create_answers_and_all_goes_on(uploaded: dict[str, bytes]) -> None:
    with site() as there:
        assert_all_is_well(there, there.create(uploaded))


@given(
    st.sampled_from(["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "header"]),
    documents,
)
def test_one_file_with_anything_in_it_beside_good_ones(name: str, document: Any) -> None:
    content = json.dumps(document).encode()
    bad = {"model.safetensors": safetensors(content)} if name == "header" else {name: content}
    good = {
        "config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights(),
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
    }  # fmt: skip
    with site() as there:
        assert_all_is_well(there, there.create(good | bad))


@given(st.dictionaries(st.text(max_size=300), st.just(b"{}"), max_size=4))
@settings(max_examples=50)
def test_whatever_the_files_are_called(others: dict[str, bytes]) -> None:
    try:
        uploaded = {"config.json": b"{}", "model.safetensors": weights()} | others
        [path.encode() for path in uploaded]
    except UnicodeEncodeError:
        return
    with site() as there:
        made = there.create(uploaded)
        assert there.names() == {"declared:latest"} | ({"planted:latest"} if made else set())
        if made:
            there.restart()
            there.show("planted")
            there.do(Delete(1, "planted"))
        assert {each for each in there.tree() if not each.startswith("blobs/")} == set()


# --- what lies in the store ------------------------------------------------------------------------------


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
