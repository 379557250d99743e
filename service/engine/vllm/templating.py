"""Render chat templates and tokenize through vLLM's renderer, in threads that callers share."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from vllm.exceptions import VLLMClientError
from vllm.renderers import BaseRenderer, ChatParams

from ...errors import BadRequest, Unavailable
from ...protocol.request import Image
from .preparation import Preparation
from .render import Prompt
from .vision import read_images

T = TypeVar("T")


class RendererTemplating:
    """The model's tokenizer, and its chat template or `template`, through vLLM's renderer. Blocks; thread-safe."""

    def __init__(self, renderer: BaseRenderer[Any], template: str | None) -> None:
        # It warns of each text that is longer than the context, as if the model were to get it.
        logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
        self._renderer = renderer
        self._template = template
        self._tokenizer = renderer.get_tokenizer()
        multimodal = renderer.model_config.multimodal_config
        self.image_options = multimodal.media_io_kwargs.get("image", {}) if multimodal is not None else {}
        self.has_chat_template = bool(template or getattr(self._tokenizer, "chat_template", None))
        self.vocabulary: dict[str, int] = dict(self._tokenizer.get_vocab())
        self.longest_token = max(map(len, self.vocabulary), default=1)
        # We check our own limit afterwards, and it is never above vLLM's.
        self._tokenize = dataclasses.replace(renderer.default_chat_tok_params, max_total_tokens=None)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text))

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids. Raises BadRequest when a number can't be a token's id."""
        try:
            return str(self._tokenizer.decode(ids, skip_special_tokens=False))
        except OverflowError as error:
            raise BadRequest(f"token ids: {error}") from None

    def encode_start(self, text: str, limit: int) -> list[int]:
        """Return the text's first `limit` tokens, including those that the tokenizer adds. There is at least one."""
        parameters = dataclasses.replace(
            self._renderer.default_cmpl_tok_params, max_total_tokens=limit, truncate_prompt_tokens=limit
        )
        (inputs,) = self._renderer.render_cmpl([{"prompt": text}], parameters)
        # An empty text has no tokens where the tokenizer adds none, and vLLM takes no empty prompt.
        return list(inputs["prompt_token_ids"]) or [self._tokenizer.eos_token_id or 0]

    def apply_chat_template(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> Prompt:
        """Return the prompt of messages without images. Raises BadRequest."""
        try:
            _, (inputs,) = self._renderer.render_chat([messages], self._parameters(arguments), self._tokenize)
        except _REFUSALS as error:
            raise _refused(error) from None
        return Prompt(list(inputs["prompt_token_ids"]))

    async def apply_to_images(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> Prompt:
        """Return the prompt of messages with images, which vLLM processes in a thread of its own. Raises BadRequest."""
        try:
            # vLLM's cache of images expects every rendered prompt in the engine, but a prompt may be too long.
            _, (inputs,) = await self._renderer.render_chat_async(
                [messages], self._parameters(arguments), self._tokenize, skip_mm_cache=True
            )
        except _REFUSALS as error:
            raise _refused(error) from None
        return Prompt(list(inputs["prompt_token_ids"]), inputs if inputs["type"] == "multimodal" else None)

    def _parameters(self, arguments: dict[str, Any]) -> ChatParams:
        return ChatParams(self._template, chat_template_kwargs=arguments)


class CallersTemplating:
    """The same for one caller: in a thread, when the caller's turn comes, or with `at_once` where it is called."""

    def __init__(
        self, templating: RendererTemplating, preparation: Preparation, caller: str, at_once: bool = False
    ) -> None:
        self._templating = templating
        self._preparation = preparation
        self._caller = caller
        self._at_once = at_once
        self.longest_token = templating.longest_token

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        return work(*arguments) if self._at_once else await self._preparation.run(self._caller, work, *arguments)

    async def encode(self, text: str) -> list[int]:
        return await self.run(self._templating.encode, text)

    async def encode_start(self, text: str, limit: int) -> list[int]:
        # More characters than these can't be among the first tokens.
        return await self.run(self._templating.encode_start, text[: limit * self.longest_token], limit)

    async def decode(self, ids: list[int]) -> str:
        return await self.run(self._templating.decode, ids)

    def vocabulary(self) -> dict[str, int]:
        return self._templating.vocabulary

    async def read_images(self, images: list[Image]) -> dict[Image, Any]:
        return await self.run(read_images, images, self._templating.image_options) if images else {}

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        if not any(isinstance(message["content"], list) for message in messages):
            return await self.run(self._templating.apply_chat_template, messages, arguments)
        async with self._preparation.turns.turn(self._caller):
            try:
                return await self._templating.apply_to_images(messages, arguments)
            except TimeoutError as error:
                raise Unavailable(f"the request took too long to prepare, please try again: {error}") from None


# Those of vLLM, of jinja and of the images' processors. An AssertionError or a RuntimeError means that the template has
# left out an image.
_REFUSALS = (VLLMClientError, ValueError, RuntimeError, AssertionError)


def _refused(error: Exception) -> BadRequest:
    """The text of a ValueError repeats the whole request, so its cause is reported."""
    reason = error if isinstance(error, VLLMClientError) else error.__cause__ or error
    return BadRequest(f"the model refuses the messages: {reason}")
