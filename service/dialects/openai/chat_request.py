"""Turn the body of `POST /v1/chat/completions` into a call. It never knows the model's chat template."""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.request import Chat, Message, Request, Sampling
from ..fields import Fields
from ..keeping import parse_keeping
from ..tools import Tools
from ..vllm_fields import CHAT, refuse_unsupported, template_arguments
from .chat_messages import parse_messages
from .chat_tools import parse_choice, parse_tools
from .constraints import parse_response_format, with_vllms
from .parameters import (
    OPENAI_DEFAULTS,
    OpenAICall,
    check_alternatives,
    integer,
    parse_alternatives,
    parse_n,
    parse_request_id,
    parse_sampling,
    parse_stream,
    truncation,
)
from .thinking import parse_think, shows_thinking

# Fields that OpenAI's API had before tools. The answers here have no place for such calls.
OLDER = {"functions": "tools", "function_call": "tool_choice"}


def parse_chat(body: dict[str, Any]) -> OpenAICall:
    """Parse the body. Raise BadRequest."""
    fields = Fields(body, "ChatCompletionRequest")
    refuse_unsupported(fields, CHAT)
    _refuse_other_answers(fields)
    model = fields.model()
    keeping = parse_keeping(fields)
    stream = parse_stream(fields, keeping)
    messages = parse_messages(fields)
    tools = parse_tools(fields)
    request = _request(fields, model, _chat(fields, messages, tools))
    show_thinking = shows_thinking(fields)
    return OpenAICall(
        model,
        [request],
        request.n,
        stream.stream,
        stream.include_usage,
        tools,
        show_thinking,
        parse_request_id(fields),
        keeping,
        stream.continuous_usage,
    )


def _chat(fields: Fields, messages: list[Message], tools: Tools) -> Chat:
    """Return the messages with the tools and all that the chat template gets. Raises BadRequest."""
    tool_choice, forced_tool, allowed = parse_choice(fields.get("tool_choice"), tools)
    switch, arguments = template_arguments(fields)
    if documents := fields.array("documents", "[]map[string]string"):
        arguments["documents"] = documents
    continue_final, generation_prompt = _last_turn(fields)
    return Chat(
        messages,
        tools.shown(allowed),
        think=parse_think(fields, switch),
        tool_choice=tool_choice,
        forced_tool=forced_tool,
        parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
        continue_final=continue_final,
        add_generation_prompt=generation_prompt,
        template_arguments=arguments,
    )


def _last_turn(fields: Fields) -> tuple[bool, bool]:
    """Return whether the answer continues the last message, and whether the template opens a turn for the answer.

    Both fields are vLLM's. Raises BadRequest when both are true, as vLLM does.
    """
    continue_final = fields.boolean("continue_final_message", False)
    generation_prompt = fields.boolean("add_generation_prompt", not continue_final)
    if continue_final and generation_prompt:
        raise BadRequest("continue_final_message can't go with add_generation_prompt", param="continue_final_message")
    return continue_final, generation_prompt


def _request(fields: Fields, model: str, chat: Chat) -> Request:
    """Return the engine's request for `n` answers. Raises BadRequest."""
    n = parse_n(fields)
    check_alternatives(logprobs := _logprobs(fields), n, "top_logprobs")
    form, constraint = with_vllms(fields, parse_response_format(fields))
    prompt_tokens, keep_start = truncation(fields)
    return Request(
        model,
        chat,
        _sampling(fields),
        OPENAI_DEFAULTS,
        truncate=False,
        format=form,
        logprobs=logprobs,
        n=n,
        constraint=constraint,
        prompt_tokens=prompt_tokens,
        keep_start=keep_start,
    )


def _refuse_other_answers(fields: Fields) -> None:
    """Raise BadRequest for what would need an answer of another form: the calls of older clients, or audio."""
    for name, instead in OLDER.items():
        if fields.get(name) not in (None, [], "none", "auto"):
            raise BadRequest(f"{name} is not supported: use {instead}", param=name, code="unsupported_parameter")
    if any(kind != "text" for kind in fields.array("modalities", "[]string")):
        raise BadRequest('modalities may hold "text" only', param="modalities", code="unsupported_value")


def _sampling(fields: Fields) -> Sampling:
    limits = [integer(fields, name, at_least=1) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((limit for limit in limits if limit is not None), None)
    return msgspec.structs.replace(parse_sampling(fields), max_tokens=limit)


def _logprobs(fields: Fields) -> int | None:
    alternatives, wanted = parse_alternatives(fields), fields.boolean("logprobs", False)
    if alternatives and not wanted:
        raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    return alternatives if wanted else None
