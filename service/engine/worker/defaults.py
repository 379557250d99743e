"""Add a model's defaults to a request. Requests in, requests out; what a request sets itself always wins."""

from __future__ import annotations

import msgspec

from ...protocol.request import Chat, Defaults, Message, Request, Sampling


def with_defaults(request: Request, defaults: Defaults) -> Request:
    """Return the request with `defaults` for what it leaves open. They win over the model's generation_config.json."""
    fields: dict[str, object] = {
        "sampling": _sampling(request.sampling, defaults.sampling),
        "adapter": defaults.adapter,
        "prompt": _chat(request.prompt, defaults) if isinstance(request.prompt, Chat) else request.prompt,
    }
    if request.context_limit is None:
        fields["context_limit"] = defaults.context_limit
    return msgspec.structs.replace(request, **fields)


def _sampling(asked: Sampling, beneath: Sampling) -> Sampling:
    chosen = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
    return msgspec.structs.replace(beneath, **chosen)


def _chat(chat: Chat, defaults: Defaults) -> Chat:
    """Return the chat with the model's messages before the request's, unless it continues an earlier exchange.

    The system message stays the first; the request's replaces the model's (Ollama's `server/routes.go`, ChatHandler
    and GenerateHandler).
    """
    system, messages = chat.messages[:1], chat.messages[1:]
    if not (system and system[0].role == "system"):
        system, messages = [], chat.messages
        if defaults.system:
            system = [Message("system", defaults.system)]
    stored = [] if chat.context else defaults.messages
    template = chat.template or defaults.template
    return msgspec.structs.replace(chat, messages=[*system, *stored, *messages], template=template)
