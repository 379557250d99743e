"""The engine for the application's own code: views, tasks, shells and scripts, with or without a request.

In: a model's name with messages, a prompt or texts. Out: a Generation, or vectors. The arguments are the fields of
Ollama's routes and take the same way as their bodies: one Request, one stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import msgspec
from flask import current_app, has_request_context, request
from msgspec.structs import replace

from ..access.key_file import default_caller
from ..config import Settings
from ..dialects import float32
from ..dialects.bounds import Bounds
from ..dialects.json_body import parse_json
from ..dialects.json_size import JSONSize
from ..dialects.ollama.answer import OllamaAnswer, OllamaChatAnswer, OllamaGenerateAnswer
from ..dialects.ollama.embeddings import parse_embed
from ..dialects.ollama.request import OllamaCall, parse_chat, parse_generate
from ..drain import refuse_while_draining
from ..engine_client.client import Client
from ..engine_client.disconnect import Presence
from ..errors import BadRequest, ServiceError, SettingsError
from ..protocol.request import Caller
from ..telemetry.outcome_reports import OutcomeReports
from ..telemetry.request_log import prompt_of
from ..telemetry.request_stats import RequestStats
from ..telemetry.traces import traceparent
from ..transport.address import parse_address
from ..transport.credentials import check_credentials
from .context import HEADER, accept_or_make, presence
from .generation import Generation, counted

# Request log and metrics show this instead of an HTTP method.
METHOD = "PYTHON"
EXTENSION = "vllm_wsgi"


class Inference:
    """Asks an engine host for answers and vectors, without HTTP.

    An application that has registered the blueprint finds one in `app.extensions` under the blueprint's name. Elsewhere
    `Inference(settings)` makes one; without `settings` they are read from the environment. Nothing connects before the
    first answer is asked for. It may be used by many threads or greenlets, and by the children of a fork.

    `caller` names the person or program to which the engine counts a request. Callers take turns, so pass an id of
    the application's user. The request log shows it. In a request's context the generation is cancelled when the
    client disconnects.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Raises SettingsError when the settings name no engine host, or certificates that can't be used."""
        settings = settings or Settings.from_env()
        if not settings.engine_socket:
            raise SettingsError(
                "VLLM_WSGI_ENGINE_SOCKET is empty: start an engine host with `vllm-wsgi engine` and name its control "
                "socket, or start web tier and engine host with `vllm-wsgi serve`"
            )
        check_credentials(parse_address(settings.engine_socket), settings.tls)
        self._settings = settings
        self._bounds = Bounds(settings.max_messages, settings.max_tools, settings.max_images)
        self.client = Client(
            settings.engine_socket,
            settings.heartbeat,
            settings.deadline,
            settings.moves,
            settings.tls,
            settings.engine_timeout,
        )
        self.reports = OutcomeReports(settings, self.client)

    def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Optional[Sequence[Mapping[str, Any]]] = None,
        think: Optional[Union[bool, str]] = None,
        format: Optional[Union[str, Mapping[str, Any]]] = None,
        options: Optional[Mapping[str, Any]] = None,
        keep_alive: Optional[Union[str, float]] = None,
        caller: str = "",
        **fields: Any,
    ) -> Generation:
        """Return the answer to messages, each with a `role` and `content`; nothing is sent before it is iterated.

        The arguments are the fields of `/api/chat`, and so are further `fields`. Images are bytes or base64.
        `keep_alive` is in seconds, or a duration such as "5m". Raises BadRequest for an argument that is not
        valid, or exceeds a bound of the routes.
        """
        body = {"tools": tools, "think": think, "format": format, "options": options, "keep_alive": keep_alive}
        call = parse_chat(self._body("ChatRequest", {"model": model, "messages": messages, **body, **fields}))
        return self._generation("chat", call, OllamaChatAnswer(call), caller)

    def generate(
        self,
        model: str,
        prompt: str,
        *,
        system: str = "",
        suffix: str = "",
        images: Optional[Sequence[Union[bytes, str]]] = None,
        raw: bool = False,
        think: Optional[Union[bool, str]] = None,
        format: Optional[Union[str, Mapping[str, Any]]] = None,
        options: Optional[Mapping[str, Any]] = None,
        keep_alive: Optional[Union[str, float]] = None,
        caller: str = "",
        **fields: Any,
    ) -> Generation:
        """Return the answer to a prompt; nothing is sent before it is iterated.

        The arguments are the fields of `/api/generate`, and so are further `fields`. Raises BadRequest as `chat` does.
        """
        body = {"think": think, "format": format, "options": options, "keep_alive": keep_alive, "images": images}
        texts = {"model": model, "prompt": prompt, "system": system, "suffix": suffix, "raw": raw}
        call = parse_generate(self._body("GenerateRequest", {**texts, **body, **fields}))
        return self._generation("generate", call, OllamaGenerateAnswer(call), caller)

    def embed(
        self,
        model: str,
        inputs: Union[str, Sequence[str]],
        *,
        dimensions: int = 0,
        truncate: bool = True,
        options: Optional[Mapping[str, Any]] = None,
        keep_alive: Optional[Union[str, float]] = None,
        caller: str = "",
    ) -> list[list[float]]:
        """Wait for the vectors of one text or several, in their order; each has the Euclidean length 1.

        The arguments are the fields of `/api/embed`. Raises ServiceError.
        """
        body = {"dimensions": dimensions, "truncate": truncate, "options": options, "keep_alive": keep_alive}
        call = parse_embed(self._body("EmbedRequest", {"model": model, "input": inputs, **body}))
        refuse_while_draining()
        stats, origin = self._stats("embed", call.request.model, call.request.inputs), self._origin("embed", caller)
        try:
            wanted = replace(call.request, **origin.fields)
            located, embedded = self.client.embed(wanted, origin.presence, call.keep_alive)
            stats.load = located.load_ns
            stats.add_prompt(embedded.prompt_tokens)
            return [float32.widened(vector) for vector in embedded.vectors]
        except ServiceError as error:
            stats.failed(error)
            raise
        finally:
            self._end(origin, stats)

    def _body(self, struct: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as a client's body would bring them, within the same bounds.

        Raises BadRequest, also for a value that JSON can't hold. `struct` is the body's name in Ollama.
        """
        try:
            # Bytes become base64, as images are sent.
            data = msgspec.json.encode(fields)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise BadRequest(f"an argument can't be written as JSON: {error}") from None
        size = JSONSize()
        size.add(data)
        body = parse_json(data, f"api.{struct}", long_numbers=size.long_numbers)
        self._bounds.check_body(body)
        return body

    def _generation(self, route: str, call: OllamaCall, answer: OllamaAnswer, caller: str) -> Generation:
        if call.request is None:
            raise BadRequest("there is nothing to answer: the prompt or the messages are empty")
        self._bounds.check_requests([call.request])
        origin = self._origin(route, caller)
        wanted = replace(call.request, **origin.fields)
        stats = self._stats(route, call.model, [prompt_of(wanted)])
        batches = counted(
            lambda: self.client.submit([wanted], origin.presence, call.keep_alive),
            answer.located,
            stats,
            lambda ended: self._end(origin, ended),
        )
        return Generation(batches, answer, origin.request_id)

    def _stats(self, route: str, model: str, prompt: Any) -> RequestStats:
        stats = RequestStats(route)
        stats.model = model
        if self._settings.log_prompts:
            stats.prompt = prompt
        return stats

    def _origin(self, route: str, name: str) -> Origin:
        caller = default_caller(self._settings, name)
        environ = request.environ if has_request_context() else {}
        span = self.reports.begin(route, {**environ, "REQUEST_METHOD": METHOD})
        return Origin(caller, _request_id(), presence() if environ else Presence(), span)

    def _end(self, origin: Origin, stats: RequestStats) -> None:
        self.reports.end(
            stats, origin.span, request_id=origin.request_id, client="", key=origin.caller.name, method=METHOD,
            status=stats.status,
        )  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """The origin of a call. `span` is None where no traces are wanted."""

    caller: Caller
    request_id: str
    presence: Presence
    span: Any

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of an engine request that name its origin."""
        return {"request_id": self.request_id, "caller": self.caller, "traceparent": traceparent(self.span)}


def inference(name: str = EXTENSION) -> Inference:
    """Return the Inference of the current application's blueprint `name`.

    Call it in an application's context. Raises SettingsError when no blueprint of this name is registered.
    """
    found = current_app.extensions.get(name)
    if not isinstance(found, Inference):
        raise SettingsError(f"this application has registered no blueprint of vllm-wsgi under the name {name!r}")
    return found


def _request_id() -> str:
    return accept_or_make(request.headers.get(HEADER, "")) if has_request_context() else uuid.uuid4().hex
