"""Images on their way into vLLM: from their files to what its renderer takes, from what that makes to a prompt's input.

Knows vLLM's layout of multimodal inputs, as of 0.32.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from io import BytesIO
from typing import Any

from PIL.Image import DecompressionBombError
from vllm import envs
from vllm.multimodal.image import open_image
from vllm.multimodal.media import ImageMediaIO
from vllm.renderers import BaseRenderer

from ...errors import BadRequest
from ...protocol.request import Image
from .render import Prompt

# What vLLM calls images, by model.
_MODALITIES = ("image", "vision_chunk")
# Where Pillow begins to suspect an attack. A processor was seen to take 25 bytes a pixel, 2 GB for so many.
MAX_PIXELS = 89_478_485


def limit_pixels() -> None:
    """Through the environment, where vLLM looks for it; what the operator has set stays."""
    os.environ.setdefault("VLLM_MAX_IMAGE_PIXELS", str(MAX_PIXELS))


def sees(renderer: BaseRenderer[Any]) -> bool:
    """Whether the model takes images, which the operator may have forbidden: `limit_mm_per_prompt`."""
    limits = renderer.mm_processor.info.allowed_mm_limits if renderer.mm_processor is not None else {}
    return any(limits.get(modality) for modality in _MODALITIES)


def read_images(images: list[Image], options: dict[str, Any]) -> dict[Image, Any]:
    """Each image as a part of a message's content; `options` are vLLM's `media_io_kwargs` for images. Takes its time.

    Together they may have VLLM_MAX_IMAGE_PIXELS, 0 for any number: a small file can hold a picture that fills the
    memory. Raises BadRequest.
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
            # Pillow's readers raise whatever they stumble over.
            raise BadRequest(f"image {number} of {len(images)} can't be read: it is damaged or no image") from None
        if picture is None:
            raise BadRequest(f"the images have more than {most} pixels together")
        room -= picture.media.width * picture.media.height
        parts[image] = {"type": "image_pil", "image_pil": picture}
    return parts


def _read(image: Image, reader: ImageMediaIO, room: int) -> Any:
    """The decoded image; None, and nothing decoded, where it says that it has more than `room` pixels."""
    width, height = open_image(BytesIO(image.data)).size
    return reader.load_bytes(image.data) if width * height <= room else None


def engine_input(prompt: Prompt) -> dict[str, Any]:
    """The prompt as vLLM takes it; its images' places move by what stands before the messages."""
    if prompt.media is None:
        return {"prompt_token_ids": prompt.ids}
    before = len(prompt.ids) - len(prompt.media["prompt_token_ids"])
    places = {
        modality: [dataclasses.replace(place, offset=place.offset + before) for place in places]
        for modality, places in prompt.media["mm_placeholders"].items()
    }
    return {**prompt.media, "prompt_token_ids": prompt.ids, "mm_placeholders": places}


def without_images(inputs: dict[str, Any]) -> list[int]:
    """The token ids of an engine input but those of its images, which mean nothing by themselves."""
    ids: list[int] = inputs["prompt_token_ids"]
    places = [place for places in inputs.get("mm_placeholders", {}).values() for place in places]
    if not places:
        return ids
    gone = {index for place in places for index in range(place.offset, place.offset + place.length)}
    return [token for index, token in enumerate(ids) if index not in gone]
