"""Render chat templates and tokenize through vLLM's renderer."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from vllm.exceptions import VLLMClientError
from vllm.renderers import BaseRenderer, ChatParams

from ...errors import BadRequest
from ...protocol.request import Image
from .render import Prompt
from .vision import read_images


class RendererTemplating:
    """The model's tokenizer, and its chat template or `template`, through vLLM's renderer."""

    def __init__(self, renderer: BaseRenderer[Any], template: str | None) -> None:
        self._renderer = renderer
        self._template = template
        self._tokenizer = renderer.get_tokenizer()
        multimodal = renderer.model_config.multimodal_config
        self._image_options = multimodal.media_io_kwargs.get("image", {}) if multimodal is not None else {}
        self.has_chat_template = bool(template or getattr(self._tokenizer, "chat_template", None))
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

    async def tokenize(self, text: str, limit: int) -> list[int]:
        """Return the text's first `limit` tokens, including those that the tokenizer adds. There is at least one."""
        parameters = dataclasses.replace(
            self._renderer.default_cmpl_tok_params, max_total_tokens=limit, truncate_prompt_tokens=limit
        )
        (inputs,) = await self._renderer.render_cmpl_async([{"prompt": text}], parameters)
        # An empty text has no tokens where the tokenizer adds none, and vLLM takes no empty prompt.
        return list(inputs["prompt_token_ids"]) or [self._tokenizer.eos_token_id or 0]

    def vocabulary(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())

    async def read_images(self, images: list[Image]) -> dict[Image, Any]:
        return await asyncio.to_thread(read_images, images, self._image_options) if images else {}

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        parameters = ChatParams(self._template, chat_template_kwargs=arguments)
        try:
            # vLLM's cache of images expects every rendered prompt in the engine, but a prompt may be too long.
            _, (inputs,) = await self._renderer.render_chat_async(
                [messages], parameters, self._tokenize, skip_mm_cache=True
            )
        except (VLLMClientError, ValueError, RuntimeError, AssertionError) as error:
            # The last two mean that the template has left out an image. The text of a ValueError repeats the whole
            # request, so its cause is reported.
            reason = error if isinstance(error, VLLMClientError) else error.__cause__ or error
            raise BadRequest(f"the model refuses the messages: {reason}") from None
        return Prompt(list(inputs["prompt_token_ids"]), inputs if inputs["type"] == "multimodal" else None)
