"""Read and list the items of a stored response."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import BadRequest
from ..answer import Record

# What the ids of items begin with.
ITEM_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}

# How many of a response's items are told at once.
PAGE_SIZES = [str(size) for size in range(1, 101)]


def conversation(stored: Record) -> list[Record]:
    """The items of a stored response, up to its output, for the request that goes on from it."""
    return [*stored["input"], *stored["response"]["output"]]


def input_items(stored: Record, query: Mapping[str, str]) -> Record:
    """A page of the items before a stored response's output, the latest first unless the query wants otherwise.

    Raises BadRequest.
    """
    order, limit, after = query.get("order", "desc"), query.get("limit", "20"), query.get("after", "")
    if order not in ("asc", "desc"):
        raise BadRequest(f'invalid order "{order}": must be "asc" or "desc"')
    if limit not in PAGE_SIZES:
        raise BadRequest(f"limit must be between 1 and {PAGE_SIZES[-1]}")
    items = stored["input"] if order == "asc" else stored["input"][::-1]
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise BadRequest(f"after: no item has the id '{after}'")
    start = ids.index(after) + 1 if after else 0
    page = items[start : start + int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(items),
    }


def _listed(item: Record, key: str) -> Record:
    """An item of a request as OpenAI lists it: with a type, an id of ours, and a message's text as a part."""
    told = {"type": "message"} | {name.lower(): value for name, value in item.items() if value is not None}
    if told["type"] == "message" and isinstance(told.get("content"), str):
        part = "output_text" if told.get("role") == "assistant" else "input_text"
        told["content"] = [{"type": part, "text": told["content"]}]
    return told | {"id": f"{ITEM_PREFIXES.get(told['type'], 'item')}_{key}"}
