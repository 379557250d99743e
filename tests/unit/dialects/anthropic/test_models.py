from __future__ import annotations

from service.dialects.anthropic.models import model, models
from service.protocol.model_info import ModelInfo


def test_a_model_has_anthropics_fields():
    info = ModelInfo(name="demo:latest", modified_at=1_700_000_000.9)
    entry = {"type": "model", "id": "demo:latest", "display_name": "demo:latest", "created_at": "2023-11-14T22:13:20Z"}
    assert model(info) == entry
    assert model(info, "demo") == entry | {"id": "demo", "display_name": "demo"}


def test_the_list_is_one_page_and_the_newest_comes_first():
    listed = models([ModelInfo(name="old", modified_at=1), ModelInfo(name="new", modified_at=2)])
    assert [entry["id"] for entry in listed["data"]] == ["new", "old"]
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "new", "old")
    assert models([]) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
