from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.protocol.request import Sampling
from service.syntax.options import OLLAMA_DEFAULTS, parse_options

INTEGERS = [
    "num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu", "main_gpu",
    "num_thread", "draft_num_predict",
]  # fmt: skip
FLOATS = [
    "top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty",
]  # fmt: skip
OPTIONS = [*INTEGERS, *FLOATS, "use_mmap", "stop"]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("options", "sampling"),
    [
        ({"temperature": 0}, Sampling(temperature=0.0)),
        ({"temperature": 0.7}, Sampling(temperature=0.7)),
        ({"top_k": 20}, Sampling(top_k=20)),
        ({"top_p": 0.5}, Sampling(top_p=0.5)),
        ({"min_p": 0.1}, Sampling(min_p=0.1)),
        ({"repeat_penalty": 1.1}, Sampling(repetition_penalty=1.1)),
        ({"presence_penalty": -1}, Sampling(presence_penalty=-1.0)),
        ({"frequency_penalty": 1.5}, Sampling(frequency_penalty=1.5)),
        ({"seed": 42}, Sampling(seed=42)),
        ({"seed": 0}, Sampling(seed=0)),
        ({"num_predict": 10}, Sampling(max_tokens=10)),
        ({"num_predict": 0}, Sampling(max_tokens=1)),
        ({"stop": ["a", "b"]}, Sampling(stop=["a", "b"])),
    ],
)
def test_an_option_is_said_in_vllms_terms(options: dict[str, Any], sampling: Sampling):
    assert parse_options(options) == (sampling, None)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"num_predict": -1},
        {"num_predict": -2},
        {"num_ctx": 0},
        {"stop": []},
        {"stop": [""]},
        dict.fromkeys(OPTIONS),
        {"num_keep": 1, "repeat_last_n": 0, "num_batch": 8, "num_gpu": -1, "main_gpu": 0, "num_thread": 4},
        {"draft_num_predict": 4, "typical_p": 0.5, "use_mmap": True},
        {"Temperature": "hot", "mirostat": "x", "tfs_z": [], "numa": 1},
    ],
)
def test_what_means_the_default_or_nothing_says_nothing(options: dict[str, Any]):
    assert parse_options(options) == (Sampling(), None)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [64, 64.0])
def test_every_integer_option_is_accepted(name: str, value: float):
    assert parse_options({name: value}) == parse_options({name: 64})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [1, 1.0])
def test_every_float_option_is_accepted(name: str, value: float):
    assert parse_options({name: value}) == parse_options({name: 1.0})


def test_a_fraction_is_cut_off_an_integer():
    assert parse_options({"top_k": 1.9, "num_ctx": 2048.7}) == (Sampling(top_k=1), 2048)


@pytest.mark.parametrize(("num_ctx", "limit"), [(8192, 8192), (8192.0, 8192), (1, 4), (4, 4)])
def test_num_ctx_is_the_limit_of_the_context(num_ctx: float, limit: int):
    assert parse_options({"num_ctx": num_ctx})[1] == limit


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["1", True, [1], {}, float("inf"), 1e30])
def test_what_is_no_integer_is_refused_by_the_name_of_the_option(name: str, value: Any):
    with pytest.raises(BadRequest, match=f'^option "{name}" must be of type integer$'):
        parse_options({name: value})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", ["hot", False, [1.0], {}, float("inf")])
def test_what_is_no_number_is_refused_by_the_name_of_the_option(name: str, value: Any):
    with pytest.raises(BadRequest, match=f'^option "{name}" must be of type float32$'):
        parse_options({name: value})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("use_mmap", 1, "of type boolean"),
        ("use_mmap", "true", "of type boolean"),
        ("stop", "x", "of type array"),
        ("stop", {}, "of type array"),
        ("stop", ["x", 1], "of an array of strings"),
        ("stop", [None], "of an array of strings"),
    ],
)
def test_other_wrong_types_are_refused_by_the_name_of_the_option(name: str, value: Any, kind: str):
    with pytest.raises(BadRequest, match=f'^option "{name}" must be {kind}$'):
        parse_options({name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", -0.1), ("top_p", 1.1), ("top_p", -1), ("min_p", 2), ("repeat_penalty", 0)]
)
def test_a_value_that_no_sampler_can_use_is_refused_by_the_name_of_the_option(name: str, value: float):
    with pytest.raises(BadRequest, match=f'^option "{name}" is out of range'):
        parse_options({name: value})


def test_ollamas_defaults_stand_beneath():
    assert Sampling(temperature=0.8, top_k=40, top_p=0.9) == OLLAMA_DEFAULTS


@given(st.dictionaries(st.sampled_from(OPTIONS), values))
def test_all_options_are_read_or_a_bad_request_that_names_one(options: dict[str, Any]):
    refusal = ""
    try:
        _, limit = parse_options(options)
        assert limit is None or limit >= 4
    except BadRequest as error:
        refusal = error.message
    assert not refusal or any(f'option "{name}"' in refusal for name in options)
