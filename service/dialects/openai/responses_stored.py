"""Read and list the items of a stored response. It never knows where responses are stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ...errors import BadRequest, ResponseNotFound
from ..answer import Record

# The prefixes of the items' ids.
ITEM_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}
# An item's id holds the key of its response, and its place in the output or in the input ("i").
_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{24})i?\d+")
# How many responses one request may refer to.
MAX_REFERRED = 100

# How many items a page may have.
PAGE_SIZES = [str(size) for size in range(1, 101)]


class StoredItem(msgspec.Struct):
    """The fields of every item before the output."""

    id: str


class StoredOutput(msgspec.Struct):
    """The fields of every response."""

    output: list[dict[str, Any]]


class StoredShape(msgspec.Struct):
    """The fields of everything that is stored."""

    input: list[StoredItem]
    response: StoredOutput


def whole(stored: Any, id: str) -> Record:
    """Return a stored response of this id, checked. Raise ResponseNotFound where it is damaged."""
    try:
        msgspec.convert(stored, StoredShape)
    except msgspec.ValidationError:
        raise ResponseNotFound(f"Response with id '{id}' not found.") from None
    record: Record = stored
    return record


def conversation(stored: Record) -> list[Record]:
    """Return all items of a stored response, its output last, for a request that continues it."""
    return [*stored["input"], *stored["response"]["output"]]


def referred_responses(body: dict[str, Any]) -> list[str]:
    """Return the ids of the responses that may hold the items to which the input refers. Raise BadRequest for too many.

    Clients refer to items by `item_reference`, as the AI SDK's OpenAI provider does from its second step on.
    """
    value = next((value for name, value in body.items() if name.lower() == "input"), None)
    items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    found = [_ITEM_ID.fullmatch(reference_id(item)) for item in items]
    ids = list(dict.fromkeys(f"resp_{match[1]}" for match in found if match))
    if len(ids) > MAX_REFERRED:
        raise BadRequest(f"input refers to the items of {len(ids)} responses, and may refer to {MAX_REFERRED}")
    return ids


def resolved(items: list[Record], stored: Iterable[Record]) -> list[Record]:
    """Return the items with each reference replaced by the stored item of that id, if there is one."""
    known = {item["id"]: item for item in stored if "id" in item}
    return [known.get(reference_id(item), item) for item in items]


def reference_id(item: Record) -> str:
    """Return the id of the item to which a reference refers, empty for any other item."""
    fields = {name.lower(): value for name, value in item.items() if value is not None}
    is_reference = fields.get("type") == "item_reference" or set(fields) == {"id"}
    return str(fields.get("id", "")) if is_reference else ""


def input_items(stored: Record, query: Mapping[str, str]) -> Record:
    """Return a page of the items before a stored response's output, by default the latest first. Raise BadRequest."""
    order, limit, after = query.get("order", "desc"), query.get("limit", "20"), query.get("after", "")
    if order not in ("asc", "desc"):
        raise BadRequest(f'invalid order "{order}": must be "asc" or "desc"', param="order")
    if limit not in PAGE_SIZES:
        raise BadRequest(f"limit must be between 1 and {PAGE_SIZES[-1]}", param="limit")
    items = stored["input"] if order == "asc" else stored["input"][::-1]
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise BadRequest(f"after: no item has the id '{after}'", param="after")
    start = ids.index(after) + 1 if after else 0
    page = items[start : start + int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(items),
    }


def listed(item: Record, key: str) -> Record:
    """Return an item of a request as OpenAI lists it: with a type and an id, and a message's text as a part.

    An item that was stored before keeps its id, so that later requests can refer to it.
    """
    entry = {"type": "message"} | {name.lower(): value for name, value in item.items() if value is not None}
    if entry["type"] == "message" and isinstance(entry.get("content"), str):
        part = "output_text" if entry.get("role") == "assistant" else "input_text"
        entry["content"] = [{"type": part, "text": entry["content"]}]
    if _ITEM_ID.fullmatch(str(entry.get("id", ""))):
        return entry
    prefix = ITEM_PREFIXES.get(entry["type"], "item") if isinstance(entry["type"], str) else "item"
    return entry | {"id": f"{prefix}_{key}"}
