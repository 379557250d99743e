from __future__ import annotations

from typing import Any

import pytest

from service.engine.vllm.sampling import sampling_arguments
from service.protocol.request import Sampling
from service.syntax.options import OLLAMA_DEFAULTS

NOTHING = Sampling()


def test_the_request_beats_the_model_and_the_model_beats_the_dialect():
    request = Sampling(temperature=0.1)
    model = {"temperature": 0.2, "top_p": 0.2}
    dialect = Sampling(temperature=0.3, top_p=0.3, top_k=3)
    assert sampling_arguments(request, model, dialect, 100) == {
        "temperature": 0.1, "top_p": 0.2, "top_k": 3, "max_tokens": 100,
    }  # fmt: skip


def test_a_zero_of_the_request_beats_the_others():
    request = Sampling(temperature=0.0, top_k=0, seed=0)
    arguments = sampling_arguments(request, {"temperature": 0.6, "top_k": 20}, OLLAMA_DEFAULTS, 100)
    assert (arguments["temperature"], arguments["top_k"], arguments["seed"]) == (0.0, 0, 0)


def test_several_greedy_answers_are_drawn_from_the_likeliest_token_alone():
    greedy = Sampling(temperature=0.0, top_p=0.5)
    several = sampling_arguments(greedy, {}, NOTHING, 100, answers=2)
    assert (several["temperature"], several["top_k"], several["top_p"]) == (1.0, 1, 1.0)
    assert sampling_arguments(greedy, {}, NOTHING, 100)["temperature"] == 0.0


def test_what_nobody_says_is_left_to_vllm():
    assert sampling_arguments(NOTHING, {}, NOTHING, 100) == {"max_tokens": 100}


def test_what_the_model_leaves_open_or_we_do_not_know_is_left_out():
    model = {"top_p": None, "do_sample": True, "eos_token_id": 1}
    assert sampling_arguments(NOTHING, model, NOTHING, 100) == {"max_tokens": 100}


@pytest.mark.parametrize(
    ("request_", "name", "value"),
    [
        (Sampling(temperature=5.0), "temperature", 2.0),
        (Sampling(temperature=2.0), "temperature", 2.0),
        (Sampling(top_p=0.0), "top_p", 1e-6),
        (Sampling(presence_penalty=9.0), "presence_penalty", 2.0),
        (Sampling(presence_penalty=-9.0), "presence_penalty", -2.0),
        (Sampling(frequency_penalty=9.0), "frequency_penalty", 2.0),
        (Sampling(frequency_penalty=-9.0), "frequency_penalty", -2.0),
        (Sampling(repetition_penalty=9.0), "repetition_penalty", 9.0),
        (Sampling(stop=["a"]), "stop", ["a"]),
        (Sampling(seed=2**63 - 1), "seed", 2**63 - 1),
    ],
)
def test_a_value_that_vllm_refuses_is_brought_to_its_limit(request_: Sampling, name: str, value: Any):
    assert sampling_arguments(request_, {}, NOTHING, 100)[name] == value


@pytest.mark.parametrize(
    ("wanted", "room", "max_tokens"), [(None, 100, 100), (7, 100, 7), (700, 100, 100), (0, 100, 1), (None, 0, 1)]
)
def test_an_answer_is_as_long_as_wanted_and_fits_the_room(wanted: int | None, room: int, max_tokens: int):
    assert sampling_arguments(Sampling(max_tokens=wanted), {}, NOTHING, room)["max_tokens"] == max_tokens


def test_the_models_own_length_is_a_default():
    assert sampling_arguments(NOTHING, {"max_tokens": 7}, NOTHING, 100)["max_tokens"] == 7
    assert sampling_arguments(Sampling(max_tokens=9), {"max_tokens": 7}, NOTHING, 100)["max_tokens"] == 9
