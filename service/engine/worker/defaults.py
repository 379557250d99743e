"""What a model's declaration adds to each request, beneath what the request says itself."""

from __future__ import annotations

import msgspec

from ...protocol.request import Chat, Defaults, Message, Request, Sampling


def with_defaults(request: Request, defaults: Defaults) -> Request:
    """The request with `defaults` beneath it, and so above the model's own generation_config.json."""
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
    """With the model's messages before the request's, unless it goes on from an earlier exchange.

    The system message stays the first, the request's rather than the model's (`server/routes.go`, ChatHandler and
    GenerateHandler).
    """
    system, messages = chat.messages[:1], chat.messages[1:]
    if not (system and system[0].role == "system"):
        system, messages = [], chat.messages
        if defaults.system:
            system = [Message("system", defaults.system)]
    stored = [] if chat.context else defaults.messages
    template = chat.template or defaults.template
    return msgspec.structs.replace(chat, messages=[*system, *stored, *messages], template=template)
