"""Build a vLLM engine from a worker's options."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Any

from vllm import AsyncEngineArgs
from vllm.config import StructuredOutputsConfig
from vllm.envs import enable_envs_cache
from vllm.platforms import current_platform
from vllm.tokenizers import get_tokenizer
from vllm.tool_parsers import ToolParserManager
from vllm.transformers_utils.config import get_config
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine.async_llm import AsyncLLM

from ...errors import SettingsError
from ...models.parser_names import ParserNames, parser_names
from .core_process import choose_start
from .engine import VllmEngine
from .metrics import RunningRequests
from .scheduler import use_our_scheduler
from .vision import limit_pixels

# When this is not set, vLLM takes most of the machine's memory for the KV cache of a CPU engine.
CPU_CACHE_BYTES = 1 << 30
# With more cores the CPU build's own worker process is worth its cost: it pins threads to NUMA nodes.
SMALL_CPU_CORES = 8
SWEPT_AT_ONCE = 1024


def build_engine(
    model_path: str,
    engine_args: dict[str, Any],
    tools: str,
    thinking: str,
    template_path: str,
    replica: int | None = None,
    may_fork: bool = False,
) -> VllmEngine:
    """Load the model; blocks until it is loaded. Raises what vLLM raises.

    `tools` and `thinking` name vLLM's parsers; empty: they follow from the chat template. An empty `template_path`
    means the model's own template. `replica` is the engine's number where the model has several.
    With `may_fork` this process has done nothing else yet, so that vLLM's EngineCore may be a fork of it.
    """
    check_names(engine_args, tools)
    template = Path(template_path).read_text(encoding="utf-8") if template_path else None
    kind = _family(model_path, template, tools, thinking)
    _set_variables()
    arguments = _arguments(model_path, kind, engine_args)
    if current_platform.is_cpu() and arguments.enforce_eager:
        # vLLM compiles parts of its sampler on first use even so. That took more than a minute on a busy machine.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    config = arguments.create_engine_config()
    use_our_scheduler(config.scheduler_config)
    if may_fork:
        choose_start(config)
    requests = RunningRequests(config)
    engine = AsyncLLM.from_vllm_config(config, stat_loggers=[lambda config, index=0: requests])
    # As vLLM's own processes do: garbage collections skip what has been loaded, which would take them a large part
    # of a second, and the environment is not read for every token.
    freeze_gc_heap()
    enable_envs_cache()
    return VllmEngine(engine, requests, kind, template, replica)


def check_names(engine_args: dict[str, Any], tools: str) -> None:
    """Raise SettingsError for arguments and for a tool parser that vLLM does not have, which vLLM says late."""
    known = [field.name for field in dataclasses.fields(AsyncEngineArgs)]
    for name in engine_args:
        if name not in known:
            near = "".join(f"; did you mean {each}?" for each in difflib.get_close_matches(name, known, 1))
            raise SettingsError(f"VLLM_WSGI_ENGINE_ARGS, or engine_args: vLLM has no argument {name!r}{near}")
    parsers = ToolParserManager.list_registered()
    if tools not in ("", "none", *parsers):
        choices = ", ".join(parsers)
        raise SettingsError(f"VLLM_WSGI_TOOL_PARSER, or tool_parser: vLLM has no {tools!r}; it has {choices}")


def _arguments(model_path: str, kind: ParserNames, engine_args: dict[str, Any]) -> AsyncEngineArgs:
    """Return vLLM's arguments: our defaults, and over them those of the operator."""
    defaults: dict[str, Any] = {
        "enable_log_requests": False,
        # With this name vLLM lets a structured output begin after the thinking.
        "reasoning_parser": kind.thinking,
        # Without this vLLM puts images before all texts when the template takes texts only.
        "interleave_mm_strings": True,
        # Without this vLLM ignores the priorities of the keys.
        "scheduling_policy": "priority",
        "worker_extension_cls": f"{__package__}.worker_extension.WorkerExtension",
    }
    if current_platform.is_cpu():
        defaults |= {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True}
    arguments = AsyncEngineArgs(**(defaults | {"model": model_path} | engine_args))
    operators = engine_args.get("structured_outputs_config")
    if operators is not None:
        # vLLM takes this one argument as an object only. White space of JSON is bounded only by xgrammar, for which
        # grammars.py does it; guidance can leave it out.
        bounds = {"disable_any_whitespace": True} if operators.get("backend") == "guidance" else {}
        arguments.structured_outputs_config = StructuredOutputsConfig(**(bounds | operators))
    return arguments


def _set_variables() -> None:
    """Set environment variables, which vLLM's child processes inherit; what the operator has set stays."""
    limit_pixels()
    if current_platform.is_cpu():
        _tune_small_cpu(len(os.sched_getaffinity(0)))
    # vLLM sweeps the outputs of a step in pieces of this many, and lets other tasks run in between. A sweep takes some
    # microseconds for each; in one piece, a step costs one message to each web worker.
    os.environ.setdefault("VLLM_V1_OUTPUT_PROC_CHUNK_SIZE", str(SWEPT_AT_ONCE))


def _tune_small_cpu(cores: int) -> None:
    """Set the variables with which a small machine leaves one core to the web tier.

    OpenMP's threads spin while they wait for each other. When they shared all cores with the web tier, a decode step
    took forty times as long as with one core left free.
    """
    if cores <= SMALL_CPU_CORES:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores - 1)))


def _family(model_path: str, template: str | None, tools: str, thinking: str) -> ParserNames:
    if template is None:
        template = getattr(get_tokenizer(model_path), "chat_template", None)
    config = get_config(model_path, trust_remote_code=False)
    return parser_names(template if isinstance(template, str) else "", config.model_type, tools, thinking)
