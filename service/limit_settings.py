"""The settings that bound what clients may send, keep and use. `config.py` has all others, and reads them."""

from __future__ import annotations

from dataclasses import dataclass

from .syntax.setting import Group, setting
from .syntax.values import parse_count, parse_seconds


@dataclass(frozen=True)
class LimitSettings:
    """The limits of one process. Durations are in seconds, sizes in bytes."""

    max_body: int = setting(
        Group.LIMITS, str(32 * 1024 * 1024), "The longest request body in bytes. A longer one gets a 413.", parse_count
    )
    max_bodies: int = setting(
        Group.LIMITS,
        str(512 * 1024 * 1024),
        "The most bytes of request bodies that one web worker reads at the same time; one key may use half of them. "
        "A body over the half of its key gets a 429, one over the whole a 503. No limit when 0.",
        parse_count,
    )
    max_messages: int = setting(
        Group.LIMITS, "10000", "The most messages, items or texts to embed in a request. No limit when 0.", parse_count
    )
    max_tools: int = setting(Group.LIMITS, "1024", "The most tools in a request. No limit when 0.", parse_count)
    max_images: int = setting(Group.LIMITS, "500", "The most images in a request. No limit when 0.", parse_count)
    max_queue: int = setting(
        Group.LIMITS,
        "512",
        "How many requests may wait for a model to load or to have capacity. One more gets a 503. No limit when 0.",
        parse_count,
    )
    max_prompt_tokens: int = setting(
        Group.LIMITS, "0", "The longest prompt in tokens; a key can set its own limit. No limit when 0.", parse_count
    )
    max_output_tokens: int = setting(
        Group.LIMITS, "0", "The most tokens of an answer; a key can set its own limit. No limit when 0.", parse_count
    )
    max_prompt_logprobs: int = setting(
        Group.LIMITS,
        "262144",
        "The most log probabilities of prompts in an answer (`echo`), alternatives included. No limit when 0.",
        parse_count,
    )
    max_logprobs: int = setting(
        Group.LIMITS,
        "262144",
        "The most log probabilities of the tokens of an answer that is not streamed, is resumable, or is a response, "
        "alternatives included. No limit when 0.",
        parse_count,
    )
    store_reserve: int = setting(
        Group.LIMITS,
        str(1024 * 1024 * 1024),
        "How many bytes uploaded files leave free on the disk of the store, a twentieth of the disk at most. "
        "A file for which there is no room gets a 507. Uploaded files may fill the disk when 0.",
        parse_count,
    )
    moves: int = setting(
        Group.LIMITS,
        "2",
        "How often the engine of a running request may die before the request fails. "
        "Until then it continues on another engine, or waits for the new one. It fails at the first death when 0.",
        parse_count,
    )
    resume_seconds: float = setting(
        Group.LIMITS,
        "300",
        "How many seconds a resumable stream is kept after its last reader has left, and after its end. "
        "No stream is kept when 0.",
        parse_seconds,
    )
    resume_streams: int = setting(
        Group.LIMITS,
        "100",
        "How many kept streams a key may have in one engine, and how many readers of them. "
        "One more gets a 429. None when 0.",
        parse_count,
    )
    resume_bytes: int = setting(
        Group.LIMITS,
        str(64 * 1024 * 1024),
        "How many bytes a key's kept streams may take in one engine. "
        "A new stream over this limit gets a 429; a running one that grows over it ends with an error. None when 0.",
        parse_count,
    )
