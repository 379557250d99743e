"""The names of actors, by which an engine host finds its engine workers again."""

from __future__ import annotations

from typing import Any

from service.engine.cluster.names import key_of, model_of, new_name, replica_key
from service.models.model import Model
from service.syntax.names import ModelName


def model(name: str = "m", **fields: Any) -> Model:
    return Model(ModelName.parse(name), "org/weights", **fields)


def test_a_name_says_what_its_actor_serves():
    name = new_name(model("team/m:v2"), 3)
    assert (model_of(name), key_of(name)) == ("team/m:v2", replica_key(model("x", replicas=9), 3))
    assert name != new_name(model("team/m:v2"), 3)
    assert key_of("somebody's") is key_of("a#b#c#d") is None


def test_another_engine_is_another_key():
    keys = {replica_key(each, 0) for each in (model(), model(engine_args={"a": 1}), model(gpus=2), model(template="t"))}
    assert len(keys) == 4
