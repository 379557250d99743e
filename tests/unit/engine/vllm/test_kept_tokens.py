"""vLLM's `truncate_prompt_tokens` on conversations that are longer than any context."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.engine.vllm.render import Prompt
from service.errors import PromptTooLong
from service.protocol.request import Chat, Request
from tests.unit.engine.vllm.test_render import Letters, chat, prompt_of


class WithoutMedia(Letters):
    """Its prompts can be cut."""

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        return (await super().apply_chat_template(messages, **arguments))._replace(media=None)


def test_the_last_tokens_of_a_chat_of_any_length_can_be_kept():
    request = Request("m", Chat(chat(*"ab" * 500, "end")), truncate=False, prompt_tokens=9)
    assert prompt_of(request, 20, WithoutMedia()) == "user:end|"
    fitting = msgspec.structs.replace(request, prompt_tokens=-1)
    assert prompt_of(fitting, 20, WithoutMedia()) == ":a|user:b|user:end|"


@pytest.mark.parametrize("fields", [{"keep_start": True}, {"prompt": Chat(chat("a" * 99, "end"))}])
def test_tokens_of_a_message_that_is_too_long_to_be_rendered_are_not_left_out(fields: dict[str, Any]):
    request = Request("m", Chat(chat(*"ab" * 500, "end")), truncate=False, prompt_tokens=15)
    with pytest.raises(PromptTooLong):
        prompt_of(msgspec.structs.replace(request, **fields), 20, WithoutMedia())
