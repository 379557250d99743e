"""One model in one process: an engine behind a data socket.

The host starts it as `python -m service.engine.worker.process OPTIONS`, with one end of a socket pair as its lifeline.
Reports go out on the lifeline: Ready, a Pulse each second, Activities. When the lifeline closes, the host is gone.
vLLM's child processes import this module again as `__mp_main__`, or are forks. Both ties them to their parent.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from ...errors import EngineGone, SettingsError
from ...protocol.commands import Command, Embed, Measure, Submit
from ...protocol.events import Delta, Event, Finished, Measured, Rendered
from ...protocol.reports import (
    EngineDied,
    EngineSilent,
    KeptAnswers,
    LoadFailed,
    Pulse,
    Ready,
    Report,
    WorkerOptions,
)
from ...protocol.request import Defaults, Request
from ...protocol.wire import pack
from ...transport.address import new_worker_address, parse_address
from ..backend import Engine
from ..listener import Emit, Handler, Push, listen
from ..parent_death import die_with_parent
from .admission import Admission
from .defaults import with_defaults
from .kept_streams import StreamStore
from .request_tasks import RequestTasks

logger = logging.getLogger("vllm_wsgi.worker")


if __name__ == "__mp_main__":
    die_with_parent()


PULSE_SECONDS = 1.0
# The exit status of a worker whose engine died or did not load.
ENGINE_DIED = 70
# How many bytes of streams that have ended a worker hands over before it exits.
HANDOVER_BYTES = 64 * 1024 * 1024
# How long the last events of requests that were ended have to leave.
FLUSH_SECONDS = 0.2


class Worker:
    """Answers web workers on the data socket, and reports to the host on the lifeline."""

    def __init__(self, engine: Engine, host: asyncio.StreamWriter, max_queue: int) -> None:
        self._engine = engine
        self._host = host
        self._admission = Admission(engine.capacity, max_queue)
        self._output_tokens = 0
        self._running = RequestTasks(self._report)
        self._stop = asyncio.Event()
        self._status = 0
        self._kept_ids = itertools.count(1)
        self._kept = StreamStore(self._generate_kept)
        self.handlers: dict[type[Command], Handler | Push] = {
            Submit: Push(self._submit),
            Embed: self._embed,
            Measure: self._measure,
            **self._kept.handlers,
        }

    async def run(self, path: str, lifeline: asyncio.StreamReader, tls: str = "") -> int:
        """Serve until the host ends the worker or the engine dies. Return the exit status.

        `path` may be an address, and `tls` is the directory of its certificates.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        server = await listen(parse_address(path), self.handlers, tls, pulses=True)
        address = "" if server.address.is_unix else new_worker_address(server.address)
        self._report(Ready(self._engine.context_length, self._engine.device, self._engine.cache_bytes, address))
        watching = [loop.create_task(self._watch(lifeline)), loop.create_task(self._send_pulses())]
        await self._stop.wait()
        server.close()
        for task in watching:
            task.cancel()
        await self._end_requests()
        if not self._status:
            await self._hand_over()
            await self._engine.shutdown()
        return self._status

    async def _submit(self, command: Submit, emit: Emit) -> None:
        await self._generate(command.id, command.request, command.defaults, emit)

    async def _generate_kept(self, request: Request, defaults: Defaults, emit: Emit) -> None:
        await self._generate(next(self._kept_ids), request, defaults, emit)

    async def _generate(self, id: int, request: Request, defaults: Defaults, emit: Emit) -> None:
        """Generate once the request's turn has come. Raises TooManyRequests, Unavailable and what the engine raises."""
        came = time.monotonic_ns()
        with self._running.with_this(request.n):
            async with self._admission.admitted(request.caller, request.n, request.so_far is not None) as bill:
                waited = time.monotonic_ns() - came

                def emit_counted(event: Delta | Finished | Rendered) -> None:
                    # Most events are of this kind.
                    if type(event) is Delta:
                        self._output_tokens += len(event.token_ids)
                    elif isinstance(event, Finished):
                        event.queue_ns += waited
                    bill.add(event)
                    emit(event)

                await self._engine.generate(id, with_defaults(request, defaults), emit_counted)

    async def _embed(self, command: Embed) -> AsyncGenerator[Event, None]:
        """Embed once the request's turn has come. Raises as `_generate` does."""
        request = command.request
        with self._running.with_this(len(request.inputs)):
            async with (
                self._admission.admitted(request.caller, len(request.inputs)) as bill,
                aclosing(self._engine.embed(command.id, request)) as events,
            ):
                async for event in events:
                    bill.add(event)
                    yield event

    async def _measure(self, command: Measure) -> AsyncGenerator[Event, None]:
        yield Measured(command.id, await asyncio.to_thread(self._engine.metrics))

    async def _end_requests(self) -> None:
        """End the requests that still run, with an error."""
        if self._running.end():
            await asyncio.sleep(FLUSH_SECONDS)

    async def _hand_over(self) -> None:
        """Report the streams that have ended, and wait until the host can read all of them."""
        if streams := self._kept.whole(HANDOVER_BYTES):
            self._report(KeptAnswers(streams))
            self._host.transport.set_write_buffer_limits(0)
            with suppress(ConnectionError):
                await self._host.drain()

    async def _watch(self, lifeline: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while await lifeline.read(1024):
                pass
        self._stop.set()

    async def _send_pulses(self) -> None:
        """Report each second whether the engine answers. The host replaces a worker whose pulse stops."""
        while True:
            try:
                pulse = await self._pulse()
                waiting = pulse.waiting + self._admission.waiting
                self._running.tell()
                self._report(Pulse(pulse.running, waiting, self._output_tokens))
            except EngineGone as error:
                logger.error("the engine died: %s", error.message)
                await self._hand_over()
                self._report(EngineDied(error.message))
                await asyncio.sleep(FLUSH_SECONDS)
                self._status = ENGINE_DIED
                self._stop.set()
                return
            await asyncio.sleep(PULSE_SECONDS)

    async def _pulse(self) -> Pulse:
        """Return the engine's answer, and report each second that there is none yet. Raises EngineGone."""
        answer = asyncio.ensure_future(self._engine.pulse())
        try:
            while not (await asyncio.wait([answer], timeout=PULSE_SECONDS))[0]:
                self._report(EngineSilent())
            return answer.result()
        finally:
            answer.cancel()

    def _report(self, report: Report) -> None:
        if not self._host.is_closing():
            self._host.write(pack(report))


def build(options: WorkerOptions) -> Engine:
    """Load the engine; takes as long as the model takes to load. Raises what the engine raises."""
    if options.engine == "scripted":
        from ..scripted import ScriptedEngine

        return ScriptedEngine.load(options.engine_args)
    from ..vllm.build import build_engine

    ours = {"served_model_name": options.name} | ({"otlp_traces_endpoint": options.traces} if options.traces else {})
    return build_engine(
        options.model,
        ours | options.engine_args,
        options.tool_parser,
        options.reasoning_parser,
        options.template,
        options.replica,
        may_fork=True,
    )


def loop_of(options: WorkerOptions) -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return the function that runs the event loop: uvloop's for vLLM, as in vLLM's own server."""
    if options.engine == "scripted":
        return asyncio.run
    import uvloop

    uvloop_run: Callable[[Coroutine[Any, Any, int]], int] = uvloop.run
    return uvloop_run


async def run(options: WorkerOptions) -> int:
    """Load the engine and serve it. Return the exit status."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=options.lifeline))
    try:
        engine = build(options)
        await engine.warm_up()
        # As vLLM's own server does: a collection looked through all that was imported, and held up every stream.
        gc.collect()
        gc.freeze()
    except Exception as error:
        message = error.message if isinstance(error, SettingsError) else f"{type(error).__name__}: {error}"
        logger.error("%s can't be loaded", options.model, exc_info=not isinstance(error, SettingsError))
        # Paths and other people's texts may hold what UTF-8 can't.
        writer.write(pack(LoadFailed(message.encode(errors="backslashreplace").decode())))
        await writer.drain()
        return ENGINE_DIED
    return await Worker(engine, writer, options.max_queue).run(options.socket, reader, options.tls)


def _begin_fork(lifeline: int) -> None:
    """Run first in a fork of this process: vLLM's EngineCore."""
    die_with_parent()
    # The two processes share this descriptor. The worker would take a signal to the fork for one to itself.
    signal.set_wakeup_fd(-1)
    os.close(lifeline)


def main() -> None:
    options = msgspec.json.decode(sys.argv[1].encode(), type=WorkerOptions)
    die_with_parent(parent=options.parent)
    os.register_at_fork(after_in_child=lambda: _begin_fork(options.lifeline))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    status = loop_of(options)(run(options))
    for stream in (sys.stdout, sys.stderr):
        # Python has no stream where the descriptor was closed before the start.
        if stream is not None:
            stream.flush()
    # The interpreter's own shutdown is skipped: vLLM's threads and `__del__`s print meaningless traces there.
    os._exit(status)


if __name__ == "__main__":
    main()
