"""Model names, `host/namespace/model:tag`, by the rules of Ollama's `types/model/name.go`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BadRequest

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")


@dataclass(frozen=True)
class ModelName:
    """A name with all of its parts."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Return the name with its defaults filled in. Raises BadRequest."""
        head, colon, tag = text.strip().rpartition(":")
        if not colon or "/" in tag:
            head, tag = text.strip(), DEFAULT_TAG
        *rest, model = head.split("/", 2)
        namespace = rest.pop() if rest else DEFAULT_NAMESPACE
        host = rest.pop() if rest else DEFAULT_HOST
        if not (_HOST.match(host) and _NAMESPACE.match(namespace) and _PART.match(model) and _PART.match(tag)):
            raise BadRequest("invalid model name")
        return cls(host, namespace, model, tag)

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The name as lists show it: without the default host and namespace, and always with the tag."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """The same text for every spelling of the name: look-ups ignore case."""
        return self.full.lower()
