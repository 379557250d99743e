"""Files that clients upload, with whatever in them: create is a 200 or a 400, and everything goes on afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadRequest
from service.protocol.commands import Copy, Create, Delete
from service.protocol.model_info import Recipe
from tests.hostile.documents import documents
from tests.hostile.site import (
    BAD_CONFIGS,
    CONFIG,
    DEEP,
    TOKENIZER,
    assert_all_is_well,
    safetensors,
    site,
    weights,
)

# --- what was found --------------------------------------------------------------------------------------

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


def is_refused(files: dict[str, bytes]) -> bool:
    """Whether no model can be made of the files. Nothing is left of it then, and all else is well."""
    with site() as there:
        created = there.create({"config.json": b"{}", "model.safetensors": weights()} | files)
        assert_all_is_well(there, made=created)
        return not created


@pytest.mark.parametrize("config", BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_a_configuration_that_can_not_be_used_is_refused_and_leaves_nothing(config: bytes) -> None:
    assert is_refused({"config.json": config})


@pytest.mark.parametrize("header", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_weights_that_can_not_be_described_are_refused_and_leave_nothing(header: bytes) -> None:
    assert is_refused({"model.safetensors": safetensors(header)})


@pytest.mark.parametrize(
    ("name", "content"), [pytest.param(n, c, id=f"{n}-{i}") for n, each in OTHERS.items() for i, c in enumerate(each)]
)
def test_other_files_that_can_not_be_used_are_refused_and_leave_nothing(name: str, content: bytes) -> None:
    assert is_refused({name: content})


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
