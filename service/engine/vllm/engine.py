"""A vLLM engine behind the worker's engine interface. Written against vLLM 0.32, whose layout moves every release."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from vllm import PoolingParams, SamplingParams
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from ...errors import BadRequest, EngineFailure, PromptTooLong, Unsupported
from ...models.parser_names import ParserNames
from ...protocol.events import Rendered, Vectors
from ...protocol.reports import Pulse
from ...protocol.request import Chat, EmbedRequest, Request
from ...syntax.names import ModelName
from ..backend import Emit, check_prompt, check_scored
from ..vectors import packed_unit_vector
from .adapter_places import AdapterPlaces
from .answer_parser import AnswerParser, Stops
from .callers_queue import CALLER
from .compiling import Compiling
from .failures import answer_of_core, engine_gone, vllm_errors
from .grammars import Grammars, costly
from .message_orders import without_old_images
from .metrics import RunningRequests, VllmMetrics
from .outputs import Answers
from .parsers import Parsers
from .preparation import Preparation
from .prompt_scores import prompt_scores
from .render import count_images, render
from .resume import SO_FAR, Resuming
from .sampling import sampling_arguments
from .short_requests import is_short
from .sweep import Sweep
from .templating import CallersTemplating, RendererTemplating
from .vision import engine_input, sees, without_images
from .warm_up import Abilities, warm_up_embedding, warm_up_generation
from .whole_thoughts import WHOLE_THOUGHT

SHUTDOWN_SECONDS = 15.0
# How many contexts a prompt may fill whose tokens are only counted.
COUNTED_CONTEXTS = 8

# How many texts of one request vLLM has at a time: enough to fill its batches, few enough that others get their turn.
EMBED_WINDOW = 256


class VllmEngine:
    """One AsyncLLM."""

    def __init__(
        self,
        engine: AsyncLLM,
        requests: RunningRequests,
        kind: ParserNames,
        template: str | None,
        replica: int | None = None,
    ) -> None:
        self._engine = engine
        self._sweep = Sweep(engine)
        self._requests = requests
        self._metrics = VllmMetrics(engine.model_config.served_model_name, replica)
        self._ids = itertools.count(1)
        self._adapters: dict[str, LoRARequest] = {}
        lora = engine.vllm_config.lora_config
        self._adapter_places = AdapterPlaces(lora.max_loras if lora else 1)
        self._preparation = Preparation()
        self._compiling = Compiling()
        self._templating = RendererTemplating(engine.renderer, template)
        self._grammars = Grammars(engine.vllm_config.structured_outputs_config.backend)
        self._parsers = Parsers(kind, engine.renderer.get_tokenizer(), engine.model_config, self._grammars)
        self._sees = sees(engine.renderer)
        self._defaults = engine.model_config.get_diff_sampling_param()
        self.context_length: int = engine.model_config.max_model_len
        self.device: str = current_platform.device_type
        self.cache_bytes = _cache_bytes(engine)
        self.capacity = _capacity(engine)
        self._resumes = issubclass(engine.vllm_config.scheduler_config.get_scheduler_cls(), Resuming)

    async def generate(self, id: int, request: Request, emit: Emit) -> None:
        """Raises BadRequest, Unavailable, EngineFailure and EngineGone."""
        if request.so_far is not None and request.so_far.token_ids and not self._resumes:
            # The operator has chosen a scheduler of their own, which can't continue an answer.
            raise EngineFailure("the answer can't be continued: the engine has a scheduler of the operator's own")
        caller, short = request.caller.name, is_short(request)
        if short:
            await self._preparation.turn_on_loop(caller)
        templating = CallersTemplating(self._templating, self._preparation, caller, at_once=short)
        request, constraint, parsers = await templating.run(self._understood, request)
        limit = min(self.context_length, request.context_limit or self.context_length)
        if request.render_only and not request.truncate:
            # The client asks how long the prompt is. It may be longer than the context, but not by any length.
            limit *= COUNTED_CONTEXTS
        prompt = await render(request, templating, limit)
        if request.render_only:
            text = await templating.decode(prompt.ids)
            emit(Rendered(id, text, count_images(request), len(prompt.ids)))
            return
        check_prompt(request.caller, len(prompt.ids))
        check_scored(request, len(prompt.ids))
        inputs = engine_input(prompt)
        room = limit - len(prompt.ids)
        parser = parsers[0]
        room = min(room, request.caller.max_output_tokens or room)
        parameters, stops = self._parameters(request, constraint, parser, room)
        prompt_ids = without_images(inputs)
        grammar = costly(parameters.structured_outputs)
        vllm_id = self._vllm_id(request)
        asked: dict[str, Any] = {
            "prompt": inputs,
            "lora_request": self._adapter(request.adapter),
            "trace_headers": _trace_headers(request),
            "priority": request.caller.priority,
            "reasoning_ended": True if parser is None else parser.reasoning_ended(prompt_ids),
        }
        async with self._adapter_places.place(caller, request.adapter):
            with vllm_errors(self._engine):
                run = partial(self._preparation.run, caller)
                scores = await prompt_scores(self._engine, run, parameters, vllm_id, **asked)
                answers = Answers(id, request, parsers, prompt_ids, stops, self._templating.decode, scores)
                answer = partial(self._sweep.generate, answers, parameters=parameters, request_id=vllm_id, **asked)
                await self._compiling.in_turn(caller, grammar, answer, emit)

    async def embed(self, id: int, request: EmbedRequest) -> AsyncGenerator[Vectors, None]:
        """Raises BadRequest, Unsupported, Unavailable and EngineGone."""
        if "embed" not in await self._tasks():
            raise Unsupported(f'"{request.model}" does not support embeddings')
        for start in range(0, len(request.inputs), EMBED_WINDOW):
            texts = request.inputs[start : start + EMBED_WINDOW]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._embed(text, request)) for text in texts]
            except ExceptionGroup as failures:
                failure = failures.exceptions[0]
                raise failure from failure.__cause__
            vectors, counts = zip(*(task.result() for task in tasks), strict=True)
            yield Vectors(id, list(vectors), sum(counts))

    async def pulse(self) -> Pulse:
        await answer_of_core(self._engine, self._engine.is_sleeping())
        if self._engine.errored:
            raise engine_gone(self._engine)
        unfinished = self._engine.get_num_unfinished_requests()
        running = min(self._requests.running, unfinished)
        return Pulse(running, unfinished - running)

    def metrics(self) -> str:
        return self._metrics.text()

    async def warm_up(self) -> None:
        tasks = await self._tasks()
        # vLLM copies the tokenizer for each thread that uses it at the same time.
        text, encode = "warm up " * 4096, self._templating.encode
        in_threads = (self._preparation.run(f"warm-up {n}", encode, text) for n in range(self._preparation.threads))
        # One more for the loop itself.
        await asyncio.gather(*in_threads, asyncio.to_thread(encode, text))
        if "generate" in tasks:
            kind = self._parsers.family
            chats = self._templating.has_chat_template
            await warm_up_generation(self, Abilities(chats, chats and bool(kind.tools), chats and self._sees))
        elif "embed" in tasks:
            await warm_up_embedding(self)

    async def shutdown(self) -> None:
        # vLLM logs a shutdown that was asked for as the death of its engine, with a trace.
        logging.getLogger("vllm").setLevel(logging.CRITICAL)
        await asyncio.to_thread(self._engine.shutdown, SHUTDOWN_SECONDS)

    async def _tasks(self) -> tuple[str, ...]:
        return await answer_of_core(self._engine, self._engine.get_supported_tasks())

    async def _embed(self, text: str, request: EmbedRequest) -> tuple[bytes, int]:
        """Return the vector of one text and the number of its tokens."""
        limit = min(self.context_length, request.context_limit or self.context_length)
        with vllm_errors(self._engine):
            # One token more than fits shows that the text is too long.
            templating = CallersTemplating(self._templating, self._preparation, request.caller.name)
            token_ids = await templating.encode_start(text, limit if request.truncate else limit + 1)
            if len(token_ids) > limit:
                raise PromptTooLong("the input length exceeds the context length", limit=limit)
            check_prompt(request.caller, len(token_ids))
            outputs = self._engine.encode(
                tokens_input(token_ids),
                PoolingParams(task="embed"),
                request_id=self._vllm_id(request),
                trace_headers=_trace_headers(request),
                priority=request.caller.priority,
            )
            async with aclosing(outputs):
                async for output in outputs:
                    return packed_unit_vector(output.outputs.data.tolist(), request.dimensions), len(token_ids)
        raise EngineFailure("an error was encountered while running the model")

    def _adapter(self, directory: str) -> LoRARequest | None:
        """Return vLLM's name for an adapter, which is a number from 1."""
        if not directory:
            return None
        number = len(self._adapters) + 1
        return self._adapters.setdefault(directory, LoRARequest(Path(directory).name, number, directory))

    def _vllm_id(self, request: Request | EmbedRequest) -> str:
        """Return the caller's own id with a number, which makes it unique: callers may repeat their ids."""
        number = str(next(self._ids))
        return f"{request.request_id}-{number}" if request.request_id else number

    def _understood(self, request: Request) -> tuple[Request, Any, list[AnswerParser | None]]:
        """Decide on thinking and tools. Return the request with that, the constraint, and a parser for each answer.

        Raises BadRequest.
        """
        chat, kind = request.prompt, self._parsers.family
        constraint = self._grammars.constraint(request.format, request.constraint)
        if not isinstance(chat, Chat):
            return request, constraint, [None] * request.n
        if chat.think and chat.must_think and not kind.thinking:
            raise BadRequest(f'"{request.model}" does not support thinking')
        if not self._sees:
            chat = msgspec.structs.replace(chat, messages=without_old_images(chat.messages))
        wants = {"tools": bool(chat.tools), "vision": any(message.images for message in chat.messages)}
        # A Go template renders neither tools nor images.
        able = {"tools": bool(kind.tools), "vision": self._sees} if not chat.template else {}
        missing = "\n".join(capability for capability, wanted in wants.items() if wanted and not able.get(capability))
        if missing:
            raise BadRequest(f"{ModelName.parse(request.model).full} does not support {missing}")
        think = bool(kind.thinking) if chat.think is None or not kind.thinking else chat.think
        # The model can't call a tool that its prompt does not name.
        tools = [] if chat.tool_choice == "none" else chat.tools
        chat = msgspec.structs.replace(chat, think=think, tools=tools)
        parsers = [self._parsers.parser(chat, bool(think), constraint) for _ in range(request.n)]
        for parser in parsers:
            if parser is not None and request.sampling.skip_special_tokens is False:
                parser.request.skip_special_tokens = False
        return msgspec.structs.replace(request, prompt=chat), constraint, parsers

    def _parameters(
        self, request: Request, constraint: Any, parser: AnswerParser | None, room: int
    ) -> tuple[SamplingParams, Stops]:
        """Return vLLM's parameters, and the stop strings of answers with a parser, which must not end the thinking."""
        arguments = sampling_arguments(request.sampling, self._defaults, request.defaults, room, request.n)
        stops = Stops([])
        if request.logprobs is not None:
            arguments["logprobs"] = request.logprobs
            if request.echo and not request.so_far:
                # A client whose answer has moved has the prompt's already. An object for each takes much longer.
                arguments |= {"prompt_logprobs": request.logprobs, "flat_logprobs": True}
        # For the scheduler.
        so_far = request.so_far.token_ids if request.so_far is not None else []
        thinks = parser is not None and parser.must_end_thought
        extra = {CALLER: request.caller.name, SO_FAR: so_far, WHOLE_THOUGHT: thinks}
        arguments["extra_args"] = {name: value for name, value in extra.items() if value} or None
        if parser is not None:
            constraint = parser.constraint
            if barred := parser.barred_ids():
                arguments["logit_bias"] = {**(arguments.get("logit_bias") or {}), **dict.fromkeys(barred, -100.0)}
            include = arguments.get("include_stop_str_in_output", False)
            stops = Stops(arguments.pop("stop", []), arguments.get("min_tokens", 0), include)
            arguments["skip_special_tokens"] = parser.request.skip_special_tokens
            # The parser decodes each token by itself; vLLM's log probabilities need its own detokenizer.
            arguments["detokenize"] = request.logprobs is not None
        with vllm_errors(self._engine):
            parameters = self._grammars.parameters(
                # Made for this request alone, they need no deep copy.
                constraint,
                n=request.n,
                output_kind=RequestOutputKind.DELTA,
                skip_clone=True,
                **arguments,
            )
        return parameters, stops


def _trace_headers(request: Request | EmbedRequest) -> dict[str, str] | None:
    return {"traceparent": request.traceparent} if request.traceparent else None


def _capacity(engine: AsyncLLM) -> int:
    """Return how many sequences run at once, and an eighth more, which are rendered while they wait for vLLM."""
    config = engine.vllm_config
    running = config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size
    return int(running + max(1, running // 8))


def _cache_bytes(engine: AsyncLLM) -> int:
    """Return the size of the KV cache in bytes: two vectors for each token, head and layer."""
    config, parallel = engine.model_config, engine.vllm_config.parallel_config
    cache = engine.vllm_config.cache_config
    width = 2 * config.get_num_kv_heads(parallel) * config.get_head_size() * config.dtype.itemsize
    return int((cache.num_gpu_blocks or 0) * cache.block_size * width * config.get_num_layers(parallel))
