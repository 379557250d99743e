"""Turns vLLM's exceptions into our errors, and names the signal that ended its core."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from ...errors import BadRequest, EngineGone, Unavailable
from ..exit_status import cause

ENGINE_GONE = "an error was encountered while running the model: the engine stopped"
# How often a call that waits for the core looks whether the core still lives.
LOOK_SECONDS = 0.5
# vLLM repeats what it refuses, however long that is: thousands of token ids, or a whole grammar.
MAX_MESSAGE_CHARACTERS = 400

T = TypeVar("T")


@contextmanager
def vllm_errors(engine: AsyncLLM) -> Iterator[None]:
    """Raise BadRequest, Unavailable or EngineGone in place of what vLLM raises."""
    try:
        yield
    except EngineDeadError:
        raise engine_gone(engine) from None
    except GracefulHTTPError as error:
        raise Unavailable(str(error)) from None
    except (VLLMClientError, ValueError) as error:
        # vLLM's names of parameters are those of OpenAI's routes.
        raise BadRequest(shortened(str(error)), param=getattr(error, "parameter", None)) from None


def shortened(message: str) -> str:
    """Return the message without its middle when it is too long for a client to read."""
    half = MAX_MESSAGE_CHARACTERS // 2
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else f"{message[:half]} […] {message[-half:]}"


async def answer_of_core(engine: AsyncLLM, call: Awaitable[T]) -> T:
    """Return what vLLM's core answers to a utility call. Raises EngineGone.

    vLLM never resolves such a call when the core dies after it was sent.
    """
    task = asyncio.ensure_future(call)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_SECONDS)
            if not task.done() and engine.errored:
                raise engine_gone(engine)
        with vllm_errors(engine):
            return task.result()
    finally:
        task.cancel()


def engine_gone(engine: AsyncLLM) -> EngineGone:
    """Return the error of a request whose engine died, with the signal that ended the engine's process."""
    codes = _exit_codes(engine)
    causes = [f"{name} {cause(code)}" for name, code in codes.items() if code < 0]
    # A request can crash the core, but it takes an operator or the kernel to kill it.
    return EngineGone(": ".join([ENGINE_GONE, *causes[:1]]), crashed=-signal.SIGKILL not in codes.values())


def _exit_codes(engine: AsyncLLM) -> dict[str, int]:
    """By the name of the process; empty where vLLM's core runs in processes of Ray's."""
    manager = engine.engine_core.resources.engine_manager
    return getattr(manager, "finished_procs", dict)()
