"""Typed fields of a JSON object; a field of the wrong type is refused in Go's words."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from ..errors import BadRequest
from ..syntax.names import ModelName
from ..syntax.numbers import as_integer, as_integers, as_number
from .turns import in_turns

# OpenAI's code for a required field that is absent or null.
MISSING = "missing_required_parameter"
KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


class Fields:
    """The fields of one object. Every reader raises a BadRequest that names the field.

    `struct` is the name of Go's type for the object, and `path` leads from there to this object; both are for messages.
    `place` is the path with the numbers of list items, which Go leaves out: "tools[0]." for "tools.".
    The case of a field's name does not matter, and null is the same as absent, as in Go's `encoding/json`.
    """

    def __init__(self, values: dict[str, Any], struct: str, path: str = "", place: str = "") -> None:
        self._values = {name.lower(): value for name, value in values.items() if value is not None}
        self._struct = struct
        self._path = path
        self._place = place or path

    @property
    def place(self) -> str:
        """Return where this object is in the body, such as "tools[0]"; empty for the body itself."""
        return self._place.removesuffix(".")

    @property
    def values(self) -> dict[str, Any]:
        """Return all fields as they came, by their names in lower case."""
        return self._values

    def get(self, name: str) -> Any:
        """Return the value as it came, None if it is absent."""
        return self._values.get(name)

    def string(self, name: str, default: str = "") -> str:
        """Return a string, `default` if it is absent."""
        value = self._values.get(name, default)
        return value if isinstance(value, str) else self._fail(name, value, "string")

    def boolean(self, name: str, default: bool) -> bool:
        """Return a boolean, `default` if it is absent."""
        value = self._values.get(name, default)
        return value if isinstance(value, bool) else self._fail(name, value, "bool")

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer of up to 64 bits, `default` if it is absent."""
        value = as_integer(self._values.get(name, default))
        return value if value is not None else self._fail(name, self._values[name], "int")

    def number(self, name: str) -> float | None:
        """Return a number, None if it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        number = as_number(value)
        return number if number is not None else self._fail(name, value, "float64")

    def integers(self, name: str) -> list[int]:
        """Return a list of integers of up to 64 bits, an empty one if it is absent."""
        values = self.array(name, "[]int")
        integers = as_integers(values)
        if None in integers:
            self._fail(name, values[integers.index(None)], "int", integers.index(None))
        return cast("list[int]", integers)

    def array(self, name: str, go_type: str) -> list[Any]:
        """Return a list with items of any kind, an empty one if it is absent. `go_type` is Go's type of the list."""
        value = self._values.get(name, [])
        return value if isinstance(value, list) else self._fail(name, value, go_type)

    def strings(self, name: str, array_type: str, item_type: str) -> list[str]:
        """Return the strings of a list, without its nulls."""
        items = self.array(name, array_type)
        for index, item in enumerate(items):
            if item is not None and not isinstance(item, str):
                self._fail(name, item, item_type, index)
        return [item for item in items if item is not None]

    def mapping(self, name: str, go_type: str = "map[string]interface {}") -> dict[str, Any]:
        """Return an object, an empty one if it is absent. `go_type` is Go's type of the object."""
        value = self._values.get(name, {})
        return value if isinstance(value, dict) else self._fail(name, value, go_type)

    def strings_by_name(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings, an empty one if it is absent."""
        values = self.mapping(name, "map[string]string")
        for value in values.values():
            if not isinstance(value, str):
                self._fail(name, value, "string")
        return values

    def child(self, name: str, go_type: str) -> Fields:
        """Return the fields of an object, or of an empty one if it is absent."""
        return Fields(self.mapping(name, go_type), self._struct, f"{self._path}{name}.", f"{self._place}{name}.")

    def children(self, name: str, array_type: str, item_type: str) -> list[Fields]:
        """Return the fields of each object of a list."""
        items = self.array(name, array_type)
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                self._fail(name, item, item_type, index)
        path, place = f"{self._path}{name}.", f"{self._place}{name}"
        return [Fields(item, self._struct, path, f"{place}[{index}].") for index, item in enumerate(in_turns(items))]

    def model(self) -> str:
        """Return the model's name as the client spells it."""
        model = self.string("model")
        if not model:
            raise BadRequest("model is required")
        ModelName.parse(model)
        return model

    def _fail(self, name: str, value: Any, go_type: str, index: int | None = None) -> NoReturn:
        kind = KINDS.get(type(value), "null")
        if kind == "number" and go_type.endswith("int"):
            kind = f"number {value}"
        field = f"{self._struct}.{self._path}{name}"
        message = f"json: cannot unmarshal {kind} into Go struct field {field} of type {go_type}"
        item = "" if index is None else f"[{index}]"
        raise BadRequest(message, param=f"{self._place}{name}{item}", code="invalid_type")
