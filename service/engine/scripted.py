"""An engine without vLLM that plays a script over the real queue.

It is for tests of the web tier, for those of the blueprint's users, and for measuring the web tier alone. The script
is the last user message or the prompt: words separated by spaces. Each word is one token and streamed as it stands,
except for these commands:

    !sleep:SECONDS    waits
    !repeat:N:WORD    WORD, N times
    !rate:N           from here on N tokens a second; as fast as possible when 0
    !step:N           the same, and all requests with this command get their tokens at the same moments, as in vLLM
    !clock:N          the monotonic clock in microseconds and a ~, N times
    !fail:TEXT        the generation fails
    !refuse:TEXT      the request is refused, if it comes first
    !busy:TEXT        the engine has no room for the request, if it comes first
    !think:WORD       WORD is thinking, not content
    !crash            the engine's process ends
    !die              the engine dies, and its worker reports that before it ends
    !block:SECONDS    computes, and lets nothing else run in the engine's process meanwhile
    !until:PATH       waits until there is a file of that name
    !hang             the engine stops answering; its pulse stops, too
    !call:NAME:JSON   a tool call with these arguments; without an argument when there is no JSON
    !system           the text of the system messages
    !result           the text of the newest result of a tool
    !trace            the request's traceparent

Agents put text of their own around what their user writes, and ask again with a tool's result. A script can stand
between `!begin` and `!end`, and have an answer to each request of the conversation, divided by `!next`.

Where log probabilities are wanted, each token has some: -1 for itself, and one less for each further alternative.

A prompt that may not be cut and has more words than the context has tokens is refused, as vLLM's engine refuses it.

A text to embed is a script too. It takes !sleep, !fail, !refuse, !crash and !die, and one more command:

    !nan              its vector holds NaN

The model's engine_args control its load: `{"load_seconds": 2}` makes it take two seconds, `{"fail": "text"}` makes it
fail after that. `{"max_num_seqs": 1}` lets one request in at a time, and `{"max_model_len": 100}` is the context.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from msgspec.structs import replace

from ..errors import BadRequest, EngineFailure, EngineGone, PromptTooLong, Unavailable
from ..protocol.events import Delta, Finished, Rendered, TokenLogprob, Vectors
from ..protocol.reports import Pulse
from ..protocol.request import EmbedRequest, Request
from .backend import Emit, check_prompt, check_scored
from .script import prompt_words, script_of, scripted_call, text_of_role
from .vectors import packed_unit_vector

# The length of the vectors.
DIMENSIONS = 8


class ScriptedEngine:
    """An Engine that plays the script in each request."""

    device = "cpu"
    cache_bytes = 0

    def __init__(self, capacity: int, context_length: int = 4096) -> None:
        self.capacity = capacity
        self.context_length = context_length
        self._running = 0
        self._hangs = self._is_dead = False

    @classmethod
    def load(cls, engine_args: dict[str, Any]) -> ScriptedEngine:
        """Load the engine; blocks for `load_seconds`. Raises RuntimeError where the arguments have `fail`."""
        time.sleep(engine_args.get("load_seconds", 0.0))
        if "fail" in engine_args:
            raise RuntimeError(engine_args["fail"])
        return cls(engine_args.get("max_num_seqs", 256), engine_args.get("max_model_len", 4096))

    async def warm_up(self) -> None:
        """Nothing gets faster."""

    async def generate(self, id: int, request: Request, emit: Emit) -> None:
        """Emit a token for each word, one answer after the other. The prompt has a token for each word, too."""
        script = script_of(request)
        if script.startswith("!refuse:"):
            raise BadRequest(script.removeprefix("!refuse:"))
        if script.startswith("!busy:"):
            raise Unavailable(script.removeprefix("!busy:"))
        if request.render_only:
            emit(Rendered(id, script, tokens=len(script.split(" "))))
            return
        check_prompt(request.caller, len(script.split(" ")))
        check_scored(request, len(script.split(" ")))
        self._check_length(request)
        self._running += 1
        try:
            for index in range(request.n):
                async for event in self._play(id, script, request):
                    event.index = index
                    emit(event)
        finally:
            self._running -= 1

    async def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Vectors, None]:
        """Yield a vector for each input, from a hash of its text; a word is a token."""
        limit = min(self.context_length, request.context_limit or self.context_length)
        self._running += 1
        try:
            for text in request.inputs:
                words = text.split()
                self._look(words)
                check_prompt(request.caller, len(words))
                if len(words) > limit and not request.truncate:
                    raise PromptTooLong("the input length exceeds the context length", limit=limit)
                numbers = await _numbers(words[:limit])
                yield Vectors(id, [packed_unit_vector(numbers, request.dimensions)], len(words[:limit]))
        finally:
            self._running -= 1

    async def pulse(self) -> Pulse:
        self._look()
        while self._hangs:
            await asyncio.sleep(0.1)
        return Pulse(self._running, 0)

    def metrics(self) -> str:
        return ""

    async def shutdown(self) -> None:
        """Nothing to close."""

    def _look(self, words: Iterable[str] = ()) -> None:
        """Raise EngineGone when the engine is dead, or dies of these words."""
        self._is_dead = self._is_dead or "!die" in words
        if self._is_dead:
            raise EngineGone("the engine died", crashed=True)

    def _check_length(self, request: Request) -> None:
        words = 0 if request.truncate else prompt_words(request)
        if words >= self.context_length:
            numbers = f"the prompt has {words} tokens, and the maximum context length is {self.context_length} tokens"
            raise PromptTooLong(numbers, tokens=words, limit=self.context_length)

    async def _play(self, id: int, script: str, request: Request) -> AsyncGenerator[Delta | Finished, None]:
        words = script.split(" ")
        limits = request.sampling.max_tokens, request.caller.max_output_tokens or None
        limit = min((limit for limit in limits if limit is not None), default=len(script) * 1000)
        started, tokens, calls, pace = time.monotonic_ns(), 0, 0, _Pace()
        # Tokens that another engine has generated.
        skipped = len(request.so_far.token_ids) if request.so_far is not None else 0
        for word in words:
            command, _, argument = word.partition(":")
            if await self._obeys(command, argument, pace):
                continue
            count, text = _repeated(command, argument, word, request)
            for _ in range(min(count, limit - tokens)):
                if tokens >= skipped:
                    await pace.next_token()
                    token = _token(id, tokens, _clock() if command == "!clock" else text, calls)
                    calls += len(token.tool_calls)
                    token.prompt_tokens = 0 if tokens else len(words)
                    if request.logprobs is not None:
                        token.logprobs = [_scored(token.text, request.logprobs)]
                    yield token
                tokens += 1
        took = time.monotonic_ns() - started
        reason = "length" if tokens == limit else "stop"
        ids = list(range(len(words))) if request.return_context else []
        yield Finished(id, reason, len(words), tokens, 0, 1, 1, took, ids)

    async def _obeys(self, command: str, argument: str, pace: _Pace) -> bool:
        """Follow a command that makes no token; return whether it is one. Raises EngineFailure."""
        if command == "!sleep":
            await asyncio.sleep(float(argument))
        elif command == "!until":
            while not os.path.exists(argument):
                await asyncio.sleep(0.02)
        elif command in ("!rate", "!step"):
            pace.set(float(argument), in_step=command == "!step")
        elif command == "!fail":
            raise EngineFailure(argument)
        elif command == "!crash":
            os._exit(70)
        elif command == "!die":
            self._look([command])
        elif command == "!block":
            _block(float(argument))
        elif command == "!hang":
            self._hangs = True
            await asyncio.Event().wait()
        else:
            return False
        return True


class _Pace:
    """When the next token is due: at once, until a rate is set."""

    def __init__(self) -> None:
        self._interval = 0.0
        self._due = time.monotonic()

    def set(self, rate: float, in_step: bool) -> None:
        """Generate `rate` tokens a second, without pauses when 0; `in_step`: at the same moments in all requests."""
        self._interval, self._due = (1 / rate if rate else 0.0), time.monotonic()
        if in_step and self._interval:
            self._due -= self._due % self._interval

    async def next_token(self) -> None:
        """Wait until the next token is due."""
        self._due += self._interval
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))


def _block(seconds: float) -> None:
    """Compute, as a long prompt would make the engine do."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _clock() -> str:
    return f"{time.monotonic_ns() // 1000}~"


def _repeated(command: str, argument: str, word: str, request: Request) -> tuple[int, str]:
    """Return how many tokens a word of the script is, and the text of each."""
    if command == "!repeat":
        times, _, text = argument.partition(":")
        return int(times), text
    if command == "!clock":
        return int(argument), ""
    if command == "!system":
        return 1, text_of_role(request, "system")
    if command == "!result":
        return 1, text_of_role(request, "tool", newest=True)
    return 1, request.traceparent if command == "!trace" else word


def _token(id: int, seq: int, word: str, calls: int) -> Delta:
    """Return the delta of a token, before which the answer has that many tool calls."""
    if word.startswith("!call:"):
        return Delta(id, seq, "", [seq], tool_calls=[scripted_call(word.removeprefix("!call:"), calls)])
    if word.startswith("!think:"):
        return Delta(id, seq, "", [seq], thinking=word.removeprefix("!think:") + " ")
    return Delta(id, seq, word + " ", [seq])


def _scored(text: str, alternatives: int) -> TokenLogprob:
    """Return a token's log probability with its alternatives, of which the token is the first."""
    ranked = [f"{text}{rank or ''}" for rank in range(max(1, alternatives))]
    token, *others = [TokenLogprob(each, -1.0 - rank, tuple(each.encode())) for rank, each in enumerate(ranked)]
    first = TokenLogprob(token.token, token.logprob, token.bytes)
    return replace(token, top_logprobs=(first, *others)[:alternatives])


async def _numbers(words: list[str]) -> list[float]:
    """Return the same numbers for the same words, after following the commands among them."""
    for word in words:
        command, _, argument = word.partition(":")
        if command == "!sleep":
            await asyncio.sleep(float(argument))
        elif command == "!fail":
            raise EngineFailure(argument)
        elif command == "!refuse":
            raise BadRequest(argument)
        elif command == "!crash":
            os._exit(70)
        elif command == "!nan":
            return [math.nan] * DIMENSIONS
    return [byte - 127.5 for byte in hashlib.sha256(" ".join(words).encode()).digest()[:DIMENSIONS]]
