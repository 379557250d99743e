"""Finds what a `$ref` refers to inside its own schema: a JSON pointer, an anchor, or either behind an `$id`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from .schema_reports import fail

# xgrammar takes these as they are. Anything else is given such a name.
_PLAIN = re.compile(r"#|#/(\$defs|definitions)/[^/~%]+")
_VALUES = ("enum", "const", "default", "examples")


class References:
    """The references of one schema."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._named: dict[str, Any] | None = None
        # References that lead to a schema without a `$ref`.
        self._sound: set[str] = set()
        self._names: dict[str, str] = {}
        self._unread: list[tuple[str, str, Any]] = []

    def check(self, reference: Any, place: str) -> None:
        """Raise BadRequest for a reference that leads nowhere, or to itself."""
        seen: set[str] = set()
        while not (isinstance(reference, str) and reference in self._sound):
            target = self.target(reference, place)
            if reference in seen:
                fail(place, f"{reference[:200]} refers to itself")
            seen.add(reference)
            if not isinstance(target, dict) or target.get("$ref") is None:
                break
            reference = target["$ref"]
        self._sound |= seen

    def target(self, reference: Any, place: str) -> Any:
        """Return the schema that a reference refers to. Raises BadRequest when there is none."""
        if not isinstance(reference, str):
            fail(place, "must be a string")
        if reference == "#" or reference.startswith("#/"):
            return self._at(self._root, reference[1:], reference, place)
        named = self._named_schemas()
        try:
            base, fragment = urldefrag(urljoin(self._identifier(), reference))
        except ValueError:
            base, fragment = "", ""
        if (anchored := f"{base}#{unquote(fragment)}") in named:
            return named[anchored]
        if base in named and (not fragment or fragment.startswith("/")):
            return self._at(named[base], fragment, reference, place)
        return fail(place, "only references inside the schema are supported: # and #/…, an $anchor, and an $id")

    def plain(self, reference: str, place: str) -> str:
        """Return the reference as xgrammar takes it: to a definition, for which `unread` has the schema."""
        if _PLAIN.fullmatch(reference):
            return reference
        if reference not in self._names:
            name = f"referred-{len(self._names)}"
            taken = self._root.get("$defs")
            while isinstance(taken, dict) and name in taken:
                name += "-"
            self._names[reference] = name
            self._unread.append((name, reference, self.target(reference, place)))
        return f"#/$defs/{self._names[reference]}"

    def unread(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the name, the place and the schema of each definition that `plain` has made."""
        while self._unread:
            yield self._unread.pop()

    def _identifier(self) -> str:
        identifier = self._root.get("$id", self._root.get("id"))
        return identifier if isinstance(identifier, str) else ""

    def _named_schemas(self) -> dict[str, Any]:
        """Return each schema with an `$id` by that, and each one with an anchor by `$id#anchor`."""
        if self._named is None:
            self._named = {"": self._root}
            left: list[tuple[Any, str]] = [(self._root, "")]
            while left:
                schema, base = left.pop()
                if isinstance(schema, dict):
                    base = self._name(schema, base, self._named)
                    left += [(each, base) for key, each in schema.items() if key not in _VALUES]
                elif isinstance(schema, list):
                    left += [(each, base) for each in schema]
        return self._named

    def _name(self, schema: dict[str, Any], base: str, named: dict[str, Any]) -> str:
        for key in ("id", "$id", "$anchor"):
            name = schema.get(key)
            if not isinstance(name, str):
                continue
            # Until draft 7, an `$id` that begins with # was an anchor.
            if key == "$anchor" or name.startswith("#"):
                named.setdefault(f"{base}#{name.removeprefix('#')}", schema)
                continue
            try:
                base = urldefrag(urljoin(base, name))[0]
            except ValueError:
                continue
            named.setdefault(base, schema)
        return base

    def _at(self, found: Any, pointer: str, reference: str, place: str) -> Any:
        """Return what a JSON pointer points to (RFC 6901), which may be percent-encoded as in its section 6."""
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            decoded = unquote(part).replace("~1", "/").replace("~0", "~")
            # Python converts no number of thousands of digits.
            if isinstance(found, list) and key.isdecimal() and len(key) < 10 and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and (key in found or decoded in found):
                found = found[key if key in found else decoded]
            else:
                fail(place, f"there is nothing at {reference[:200]}")
        return found
