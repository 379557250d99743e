"""The fields that vLLM's own server adds to OpenAI's and Anthropic's APIs, honoured or refused one by one.

A field that changes the meaning of an answer is never ignored. The list is that of the request models of vLLM 0.32
(`vllm/entrypoints/openai`, `pooling/embed` and `anthropic`), and of the names that older versions had. A field that
another route has, vLLM's or not, and that would change an answer of this one, is refused with the name of this route's
own field.
Fields that neither API nor vLLM has are ignored, as clients of OpenAI expect.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from ..errors import BadRequest
from .fields import Fields

_THINKING = ("enable_thinking", "thinking")
# Options of Ollama's that say how a model lies in memory.
PLACEMENT = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "use_mmap", "use_mlock", "low_vram")
# Names that a chat template gets from the request's other fields, or that decide how it is rendered.
_OWN_ARGUMENTS = (
    "messages", "conversation", "tools", "chat_template", "tokenize", "add_generation_prompt",
    "continue_final_message", "return_dict", "return_tensors",
)  # fmt: skip


class Treatment(str, Enum):
    """How a route treats a field. `NO_EFFECT`: vLLM's own server does nothing with it on this route either."""

    HONOURED = "honoured"
    REFUSED = "refused"
    NO_EFFECT = "no effect"


class VllmField(NamedTuple):
    """A field of vLLM's. `harmless` are the values of a refused field that ask for nothing, and so are accepted.

    Null, and an object that has nothing but `harmless_keys`, ask for nothing either.
    """

    treatment: Treatment
    note: str = ""
    harmless: tuple[Any, ...] = ()
    harmless_keys: tuple[str, ...] = ()

    def asks_nothing(self, value: Any) -> bool:
        """Return whether a value of the field is harmless."""
        if value is None or any(_equal(value, each) for each in self.harmless):
            return True
        return isinstance(value, dict) and value.keys() <= set(self.harmless_keys)


Route = dict[str, VllmField]


def _honoured(**notes: str) -> Route:
    return {name: VllmField(Treatment.HONOURED, note) for name, note in notes.items()}


def _no_effect(*names: str) -> Route:
    return {name: VllmField(Treatment.NO_EFFECT) for name in names}


def _refused(note: str, **harmless: Any) -> Route:
    return {name: VllmField(Treatment.REFUSED, note, (value,)) for name, value in harmless.items()}


def _others(note: str, *names: str) -> Route:
    """Return fields of another of these APIs, which clients of several of them leave empty."""
    return {name: VllmField(Treatment.REFUSED, note, ("", False)) for name in names}


_SAMPLING = {
    **_honoured(
        top_k="-1 and 0 for no limit", min_p="", repetition_penalty="", stop_token_ids="", ignore_eos="", min_tokens=""
    ),
    **_honoured(
        bad_words="", allowed_token_ids="", include_stop_str_in_output="", skip_special_tokens="",
        spaces_between_special_tokens="", thinking_token_budget="if the operator has configured it in engine_args",
    ),
}  # fmt: skip
_CONSTRAINTS = _honoured(
    structured_outputs="`json`, `json_object`, `regex`, `choice`, `grammar` and `structural_tag`",
    guided_json="the older names of `structured_outputs`",
    guided_regex="",
    guided_choice="",
    guided_grammar="",
)
_TRUNCATION = _honoured(
    truncate_prompt_tokens="how many tokens of the prompt are kept; -1 keeps as many as fit",
    truncation_side='"left", the default, keeps the last ones',
)
_SWITCHES = _honoured(chat_template_kwargs="but for what the server sets itself: the messages, the tools, the template")
_TEMPLATE = {
    **_SWITCHES,
    **_honoured(add_generation_prompt="", continue_final_message="", documents=""),
}
_OPERATORS = _refused(
    "the operator decides it",
    priority=0, cache_salt=None, kv_transfer_params=None, ec_transfer_params=None, vllm_xargs=None, watermarking=False,
    guided_decoding_backend=None, guided_whitespace_pattern=None,
)  # fmt: skip
_MEDIA = _refused("the operator sets it in engine_args", media_io_kwargs=None, mm_processor_kwargs=None)
_BEAMS = _refused("vLLM's engine has no beam search; use n", use_beam_search=False, length_penalty=1.0,
                  early_stopping=False)  # fmt: skip
_UNANSWERED = _refused(
    "the answer has no place for what it asks for",
    prompt_logprobs=None, logprob_token_ids=None, return_tokens_as_token_ids=False, return_token_ids=False,
    return_prompt_text=False, routed_experts_prompt_start=0,
)  # fmt: skip
_STREAM = _refused("tokens are joined by the server's load", stream_interval=1)
_REPETITION = _refused("use max_tokens or the penalties", repetition_detection=None)
# What chat and completions have, and would change an answer, for the routes that don't have it.
_ELSEWHERE = {
    **_refused(
        "this route has no such field",
        truncate_prompt_tokens=None, truncation_side=None, add_generation_prompt=True, continue_final_message=False,
        documents=None, chat_template=None, add_special_tokens=False, echo=False, best_of=1,
    ),
    **_BEAMS, **_UNANSWERED, **_REPETITION, **_MEDIA,
}  # fmt: skip
_SAMPLING_ELSEWHERE = _refused(
    "this route has no such field",
    min_p=0, repetition_penalty=1, stop_token_ids=None, ignore_eos=False, min_tokens=0, bad_words=None,
    allowed_token_ids=None, include_stop_str_in_output=False, skip_special_tokens=True,
    spaces_between_special_tokens=True, thinking_token_budget=-1, include_reasoning=True,
)  # fmt: skip
_CONSTRAINTS_ELSEWHERE = _refused(
    "use output_config.format",
    structured_outputs=None, guided_json=None, guided_regex=None, guided_choice=None, guided_grammar=None,
    response_format={"type": "text"},
)  # fmt: skip
# OpenAI's fields, for the routes of other APIs. Anthropic's own server refuses any field that it does not have.
_OPENAI_ELSEWHERE = {
    **_refused("use stop_sequences", stop=None),
    **_refused("use max_tokens", max_completion_tokens=None, max_output_tokens=None),
    **_refused("use output_config.effort", reasoning_effort=None, reasoning=None),
    **_refused("use tools", functions=None),
    **_refused("a message is one answer", n=1),
    **_refused(
        "this route has no such field",
        seed=None, logprobs=False, top_logprobs=0, logit_bias=None, presence_penalty=0, frequency_penalty=0,
    ),
}  # fmt: skip
# Ollama's options. Those that are about the model's place in memory are ignored on every route.
_OPTIONS = {
    "options": VllmField(Treatment.REFUSED, "use this route's own fields, such as temperature", ("", False), PLACEMENT)
}
_CONVERSATION = _others("send the conversation as messages", "input", "prompt", "previous_response_id")
_IGNORED = _no_effect(
    "user", "session_id", "mm_payload", "return_mm_kwargs", "return_token_offsets", "metadata", "service_tier"
)
_REQUEST_ID = _honoured(request_id="the answer's `id` ends with it")

CHAT: Route = {
    **_SAMPLING, **_CONSTRAINTS, **_TRUNCATION, **_TEMPLATE, **_OPERATORS, **_MEDIA, **_BEAMS,
    **_UNANSWERED, **_STREAM, **_REPETITION, **_IGNORED, **_REQUEST_ID,
    **_honoured(include_reasoning="without it the thinking is not sent"),
    **_OPTIONS, **_CONVERSATION,
    **_others("use response_format", "format", "text", "output_format"),
    **_others("use response_format and reasoning_effort", "output_config"),
    **_others("send a message of the system", "system", "instructions"),
    **_refused("the operator sets a model's template", chat_template=None),
    **_refused("the template adds them", add_special_tokens=False),
    **_refused("an answer holds its own text alone", echo=False),
    **_refused("use n", best_of=1),
    **_refused("use max_completion_tokens", max_output_tokens=None),
    **_refused("use stop", stop_sequences=None),
}  # fmt: skip
COMPLETIONS: Route = {
    **_SAMPLING, **_CONSTRAINTS, **_TRUNCATION, **_OPERATORS, **_MEDIA, **_BEAMS, **_UNANSWERED, **_STREAM,
    **_REPETITION, **_IGNORED, **_REQUEST_ID,
    **_honoured(response_format="as on `/v1/chat/completions`"),
    **_refused("send token ids as the prompt", add_special_tokens=True),
    **_refused("send a text or token ids", prompt_embeds=None),
    **_refused("use max_tokens", max_output_tokens=None),
    **_refused("use stop", stop_sequences=None),
    **_refused("use logprobs, which is a number here", top_logprobs=0),
    **_OPTIONS,
    **_others("use response_format", "format", "text", "output_format", "output_config"),
    **_others(
        "send a prompt; this route has no chat template",
        "messages", "tools", "system", "instructions", "input", "previous_response_id", "think", "thinking",
        "enable_thinking", "reasoning", "reasoning_effort",
    ),
    **_refused("this route has no tools", tool_choice="none"),
}  # fmt: skip
RESPONSES: Route = {
    **_ELSEWHERE, **_SAMPLING, **_CONSTRAINTS, **_OPERATORS, **_STREAM, **_IGNORED,
    **_honoured(
        include_reasoning="without it the thinking is not sent", seed="", stop="", logit_bias="", presence_penalty="",
        frequency_penalty="",
    ),
    **_SWITCHES,
    **_no_effect("prompt_cache_key", "max_tool_calls"),
    **_refused("the server makes the ids of responses", request_id=None),
    **_refused("send the conversation as input", previous_input_messages=None, enable_response_messages=False,
               messages=None),
    **_refused("use text.format", response_format={"type": "text"}),
    **_OPTIONS,
    **_others("use text.format", "format", "output_format"),
    **_others("use text.format and reasoning.effort", "output_config"),
    **_others("use instructions", "system"),
    **_others("use reasoning.effort", "reasoning_effort", "think", "thinking", "enable_thinking"),
    **_refused("use max_output_tokens", max_tokens=None, max_completion_tokens=None),
    **_refused("use stop", stop_sequences=None),
    **_refused("use top_logprobs, and message.output_text.logprobs in include", logprobs=False),
    **_refused("use tools", functions=None),
    **_refused("a response is one answer", n=1),
}  # fmt: skip
MESSAGES: Route = {
    **_OPENAI_ELSEWHERE,
    **_ELSEWHERE,
    **_SAMPLING_ELSEWHERE,
    **_CONSTRAINTS_ELSEWHERE,
    **_OPERATORS,
    **_STREAM,
    **_SWITCHES,
    **_no_effect("mm_payload", "return_mm_kwargs", "metadata"),
    **_OPTIONS, **_CONVERSATION,
    **_others("use output_config.format", "format", "text"),
    **_others("use system", "instructions"),
    **_others("use thinking", "think", "enable_thinking"),
    # A thread that is only begun changes nothing yet.
    **_refused("this server keeps no threads: send the whole conversation as messages", thread={"type": "create"}),
    **_refused("this server makes no summaries by itself: ask for one in a message", compaction=None),
}  # fmt: skip
EMBEDDINGS: Route = {
    **_OPERATORS, **_MEDIA,
    **_honoured(
        truncate_prompt_tokens="how many tokens of each text are kept, from its start; -1 keeps as many as fit"
    ),
    **_no_effect("user", "request_id"),
    **_refused("the first tokens are kept", truncation_side="right"),
    **_refused("send texts as input", messages=None, chat_template=None, chat_template_kwargs=None,
               add_generation_prompt=False, continue_final_message=False, padding=None),
    **_refused("vectors have length 1 and are float32", use_activation=True, normalize=True, embed_dtype="float32"),
    **_refused("vectors are little-endian", endianness="little"),
    **_refused("the tokenizer adds them", add_special_tokens=True),
}  # fmt: skip
ROUTES: dict[str, Route] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/embeddings": EMBEDDINGS,
}


def refuse_unsupported(fields: Fields, route: Route) -> None:
    """Raise a BadRequest that names the first field that this server can't honour."""
    for name in fields.values.keys() & route.keys():
        field, value = route[name], fields.get(name)
        if field.treatment is Treatment.REFUSED and not field.asks_nothing(value):
            raise BadRequest(f"{name} is not supported: {field.note}", param=name, code="unsupported_parameter")


def template_arguments(fields: Fields) -> tuple[bool | None, dict[str, Any]]:
    """Return whether `chat_template_kwargs` switches the thinking on or off, and its other arguments.

    Raise BadRequest for arguments that the server sets itself.
    """
    arguments = dict(fields.mapping("chat_template_kwargs"))
    for name in arguments:
        if name in _OWN_ARGUMENTS:
            place = f"chat_template_kwargs.{name}"
            raise BadRequest(f"{place} is not supported", param=place, code="unsupported_parameter")
        if name in _THINKING and not isinstance(arguments[name], bool):
            raise BadRequest(f"chat_template_kwargs.{name} must be true or false", param=f"chat_template_kwargs.{name}")
    switches = [arguments.pop(name) for name in _THINKING if name in arguments]
    return (switches[0] if switches else None), arguments


def table() -> list[tuple[str, ...]]:
    """Return a row for each field: its name, and its treatment on each of the ROUTES, for the documentation."""
    names = sorted({name for route in ROUTES.values() for name in route})
    return [(name, *(_cell(route.get(name)) for route in ROUTES.values()), _note(name)) for name in names]


def _cell(field: VllmField | None) -> str:
    return "" if field is None else field.treatment.value


def _note(name: str) -> str:
    """Return the note of a field. Where the routes have different ones, each names its routes."""
    routes_of: dict[str, list[str]] = {}
    for path, route in ROUTES.items():
        if name in route and route[name].note:
            routes_of.setdefault(route[name].note, []).append(f"`{path}`")
    if len(routes_of) < 2:
        return "".join(routes_of)
    return "; ".join(f"{', '.join(paths)}: {note}" for note, paths in routes_of.items())


def _equal(value: Any, harmless: Any) -> bool:
    """Compare as JSON does, where a bool is not a number. Empty lists and objects ask for nothing either."""
    return value in ([], {}) or (value == harmless and isinstance(value, bool) == isinstance(harmless, bool))
