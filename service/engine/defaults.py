"""What the operator's declaration of a model adds to each request, beneath what the request says itself."""

from __future__ import annotations

import msgspec

from ..messages import Chat, Message, Request, Sampling


class Defaults(msgspec.Struct, frozen=True):
    """`context_limit` is in tokens."""

    sampling: Sampling = Sampling()
    context_limit: int | None = None
    system: str = ""

    def complete(self, request: Request) -> Request:
        """The request with these beneath it, and so above the model's own generation_config.json.

        The system message goes before the others unless the first is one already, as in Ollama (`server/routes.go`,
        ChatHandler).
        """
        fields: dict[str, object] = {"sampling": self._sampling(request.sampling)}
        if request.context_limit is None:
            fields["context_limit"] = self.context_limit
        prompt = request.prompt
        if self.system and isinstance(prompt, Chat) and not (prompt.messages and prompt.messages[0].role == "system"):
            messages = [Message("system", self.system), *prompt.messages]
            fields["prompt"] = msgspec.structs.replace(prompt, messages=messages)
        return msgspec.structs.replace(request, **fields)

    def _sampling(self, sampling: Sampling) -> Sampling:
        chosen = {name: value for name, value in msgspec.structs.asdict(sampling).items() if value is not None}
        return msgspec.structs.replace(self.sampling, **chosen)
