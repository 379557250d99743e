"""Reads images for vLLM's renderer, and turns what the renderer made of them into the engine's input.

Knows the layout of vLLM 0.32's multimodal inputs.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from io import BytesIO
from typing import Any

from PIL.Image import DecompressionBombError
from vllm import envs
from vllm.inputs import tokens_input
from vllm.multimodal.image import open_image
from vllm.multimodal.media import ImageMediaIO
from vllm.renderers import BaseRenderer

from ...errors import BadRequest
from ...protocol.request import Image
from .render import Prompt

# vLLM's names for images, which depend on the model.
_MODALITIES = ("image", "vision_chunk")
# Above this Pillow warns of an attack. A processor was seen to take 25 bytes a pixel, 2 GB for this many pixels.
MAX_PIXELS = 89_478_485


def limit_pixels() -> None:
    """Set the limit in the environment, where vLLM looks for it; what the operator has set stays."""
    os.environ.setdefault("VLLM_MAX_IMAGE_PIXELS", str(MAX_PIXELS))


def sees(renderer: BaseRenderer[Any]) -> bool:
    """Return whether the model takes images and the operator allows them (`limit_mm_per_prompt`)."""
    limits = renderer.mm_processor.info.allowed_mm_limits if renderer.mm_processor is not None else {}
    return any(limits.get(modality) for modality in _MODALITIES)


def read_images(images: list[Image], options: dict[str, Any]) -> dict[Image, Any]:
    """Return each image as a part of a message's content. `options` are vLLM's `media_io_kwargs` for images.

    Decodes the images, so it may take seconds. Raises BadRequest when an image can't be read, or when the images have
    more than VLLM_MAX_IMAGE_PIXELS pixels together (no limit when 0): a small file can hold a picture that fills the
    memory.
    """
    reader = ImageMediaIO(**options)
    room = most = envs.VLLM_MAX_IMAGE_PIXELS or sys.maxsize
    parts = {}
    for number, image in enumerate(images, 1):
        try:
            picture = _read(image, reader, room)
        except DecompressionBombError:
            picture = None
        except Exception:
            # Pillow's readers raise errors of many kinds.
            raise BadRequest(f"image {number} of {len(images)} can't be read: it is damaged, or not an image") from None
        if picture is None:
            raise BadRequest(f"the images have more than {most} pixels together")
        room -= picture.media.width * picture.media.height
        parts[image] = {"type": "image_pil", "image_pil": picture}
    return parts


def _read(image: Image, reader: ImageMediaIO, room: int) -> Any:
    """Return the decoded image; None, with nothing decoded, when its header names more than `room` pixels."""
    width, height = open_image(BytesIO(image.data)).size
    return reader.load_bytes(image.data) if width * height <= room else None


def engine_input(prompt: Prompt) -> dict[str, Any]:
    """Return the prompt as vLLM's renderer leaves it, so that vLLM takes it without another step in a thread.

    The images' places move by the length of what is before the messages.
    """
    if prompt.media is None:
        return {**tokens_input(prompt.ids)}
    before = len(prompt.ids) - len(prompt.media["prompt_token_ids"])
    places = {
        modality: [dataclasses.replace(place, offset=place.offset + before) for place in places]
        for modality, places in prompt.media["mm_placeholders"].items()
    }
    return {**prompt.media, "prompt_token_ids": prompt.ids, "mm_placeholders": places}


def without_images(inputs: dict[str, Any]) -> list[int]:
    """Return the token ids of an engine input without those of its images, which are only placeholders."""
    ids: list[int] = inputs["prompt_token_ids"]
    places = [place for places in inputs.get("mm_placeholders", {}).values() for place in places]
    if not places:
        return ids
    gone = {index for place in places for index in range(place.offset, place.offset + place.length)}
    return [token for index, token in enumerate(ids) if index not in gone]
