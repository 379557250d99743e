"""An engine that is watched and replaced: workers that are the test's own, and no time."""

from __future__ import annotations

import pytest

from service.engine.host import pulse_watch
from service.engine.host.backoff import LOAD_ATTEMPTS, Backoff
from service.errors import EngineGone, InternalError, ServiceError, Unavailable
from service.protocol.live import EngineStatus
from service.protocol.model_info import EngineState
from service.protocol.reports import Activity, EngineDied, LoadFailed, Pulse, Report
from tests.support.loop import in_loop, settle
from tests.support.supervised import READY, Watched


def refusal(watched: Watched) -> ServiceError:
    with pytest.raises(ServiceError) as refused:
        watched.supervisor.check()
    return refused.value


@in_loop
async def test_a_worker_that_is_ready_is_found_at_its_socket():
    watched = Watched()
    assert (watched.state, watched.supervisor.socket) == (EngineState.IDLE, "")
    await watched.load()
    assert (watched.state, watched.supervisor.socket) == (EngineState.LOADING, "")
    await watched.report(READY)
    assert watched.supervisor.socket == watched.workers[0].path
    assert watched.supervisor.resident.memory == 5 + 7


@in_loop
async def test_the_load_of_a_worker_is_what_it_reports_and_what_was_sent_since():
    watched = Watched()
    await watched.load()
    await watched.report(READY)
    watched.supervisor.resident.send(None, submits=2)
    watched.supervisor.resident.send(None, submits=1)
    assert watched.supervisor.load == 3
    await watched.report(Activity(1, 1))
    assert watched.supervisor.load == 3
    await watched.report(Activity(3, 2))
    assert watched.supervisor.load == 2
    # One that never arrives, such as of a client that has left, counts until the next pulse.
    watched.supervisor.resident.send(None, submits=1)
    assert watched.supervisor.load == 3
    await watched.report(Pulse(2, 0))
    assert watched.supervisor.load == 2


@in_loop
async def test_requests_that_have_ended_are_no_load_before_the_next_pulse():
    watched = Watched()
    await watched.load()
    await watched.report(READY)
    for number in range(1, 10):
        watched.supervisor.resident.send(None, submits=1)
        await watched.report(Activity(number, 1), Activity(number, 0))
        assert watched.supervisor.load == 0


@in_loop
async def test_a_worker_that_is_to_be_replaced_is_started_again_at_once_and_has_not_failed():
    watched = Watched()
    watched.supervisor._backoff = Backoff(watched.clock, [9.0])
    await watched.load()
    watched.supervisor.restart()
    assert not watched.workers[0].ended
    await watched.report(READY)
    watched.supervisor.restart()
    assert watched.workers[0].ended
    await watched.report(EngineGone("the engine worker exited with status 0"))
    assert (watched.state, len(watched.workers)) == (EngineState.RESTARTING, 2)
    assert refusal(watched).message == "the engine is being restarted"
    await watched.report(READY)
    assert (watched.state, watched.supervisor.measured().restarts) == (EngineState.READY, 0)


@in_loop
async def test_a_worker_whose_pulse_is_late_is_not_well(monkeypatch: pytest.MonkeyPatch):
    watched = Watched()
    await watched.load()
    await watched.report(READY, Pulse(0, 0))
    assert watched.supervisor.is_well
    monkeypatch.setattr("service.engine.host.pulses.LATE_SECONDS", -1.0)
    assert not watched.supervisor.is_well


@in_loop
async def test_an_observer_is_shown_what_the_engine_does_and_what_is_wrong_with_it():
    watched = Watched()
    await watched.load()
    assert watched.supervisor.status().state is EngineState.LOADING
    await watched.report(READY, Pulse(2, 3, 10))
    ready = watched.supervisor.status()
    assert (ready.state, ready.running, ready.waiting, ready.memory_bytes) == (EngineState.READY, 2, 3, 5 + 7)
    assert (ready.reason, ready.retry_at) == ("", None)
    restarting: list[EngineStatus] = []

    def look(has_entered: bool) -> None:
        if watched.state is EngineState.RESTARTING:
            restarting.append(watched.supervisor.status())

    watched.supervisor._stir = look
    await watched.report(EngineGone("the engine worker was killed by SIGKILL"))
    assert [each.reason for each in restarting] == ["the engine worker was killed by SIGKILL"]
    assert restarting[0].retry_at is not None
    assert (restarting[0].running, restarting[0].memory_bytes, restarting[0].restarts) == (0, 0, 1)


@in_loop
async def test_an_engine_that_is_given_up_is_shown_as_failed_until_it_is_asked_for():
    watched = Watched()
    assert watched.supervisor.status().state is EngineState.IDLE
    await watched.load()
    for _ in range(LOAD_ATTEMPTS):
        await watched.report(LoadFailed("RuntimeError: no"))
    failed = watched.supervisor.status()
    assert (failed.state, failed.retry_at) == (EngineState.FAILED, None)
    assert failed.reason == "the model can't be loaded: RuntimeError: no"
    await watched.load()
    assert watched.supervisor.status().state is EngineState.LOADING


@in_loop
async def test_the_worker_reports_whether_it_is_in_use():
    watched = Watched()
    await watched.load()
    await watched.report(READY)
    stirred = watched.stirred
    await watched.report(Activity(1, 1))
    assert (watched.supervisor.resident.in_use, watched.stirred) == (True, stirred + 1)
    await watched.report(Activity(1, 0))
    assert not watched.supervisor.resident.in_use


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (EngineGone("the engine worker was killed by SIGKILL"), "the engine worker was killed by SIGKILL"),
        (EngineDied("vLLM's EngineCore was killed by SIGILL"), "vLLM's EngineCore was killed by SIGILL"),
        (TimeoutError(), "the engine has answered nothing for 60 s"),
    ],
)
@in_loop
async def test_a_worker_that_dies_is_replaced_and_clients_are_told_why(end: Report | Exception, message: str):
    watched = Watched()
    await watched.load()
    await watched.report(READY)
    told: list[ServiceError] = []

    def ask(has_entered: bool) -> None:
        if watched.state is EngineState.RESTARTING:
            told.append(refusal(watched))

    watched.supervisor._stir = ask
    await watched.report(end)
    assert [(type(each), each.message, each.retry_after) for each in told] == [(EngineGone, message, 1)]
    assert [worker.ended for worker in watched.workers] == [True, False]
    await watched.report(READY)
    assert watched.supervisor.socket == watched.workers[1].path
    assert watched.supervisor.measured().restarts == 1


@in_loop
async def test_a_host_that_was_stopped_itself_blames_no_worker(monkeypatch: pytest.MonkeyPatch):
    watched = Watched()
    await watched.load()
    monkeypatch.setattr(pulse_watch, "STOOD_STILL_SECONDS", -1e9)
    await watched.report(READY, TimeoutError(), Pulse(0, 0))
    assert (watched.state, len(watched.workers)) == (EngineState.READY, 1)


@in_loop
async def test_a_model_that_does_not_load_is_given_up_and_loaded_when_it_is_asked_for_again():
    watched = Watched()
    await watched.load()
    for _ in range(LOAD_ATTEMPTS):
        await watched.report(LoadFailed("RuntimeError: no"))
    assert (watched.state, len(watched.workers)) == (EngineState.IDLE, LOAD_ATTEMPTS)
    await watched.load()
    await watched.report(READY)
    assert watched.state is EngineState.READY


@in_loop
async def test_a_pinned_model_that_does_not_load_is_tried_on_and_on():
    watched = Watched(pinned=True)
    await watched.load()
    for _ in range(LOAD_ATTEMPTS * 2):
        await watched.report(LoadFailed("RuntimeError: no"))
    assert (watched.state, len(watched.workers)) == (EngineState.RESTARTING, LOAD_ATTEMPTS * 2 + 1)
    assert refusal(watched).message == "the model can't be loaded: RuntimeError: no"


@in_loop
async def test_after_a_failure_a_model_is_not_loaded_before_the_pause_is_over():
    watched = Watched()
    watched.supervisor._backoff = Backoff(watched.clock, [0.0, 0.0, 9.0])
    await watched.load()
    for _ in range(LOAD_ATTEMPTS):
        await watched.report(LoadFailed("no"))
    refused = refusal(watched)
    assert (type(refused), refused.message, refused.retry_after) == (Unavailable, "the model can't be loaded: no", 10)
    watched.clock.now += 9
    watched.supervisor.check()


@in_loop
async def test_a_worker_that_can_not_be_started_is_a_failed_load():
    def fail() -> None:
        raise OSError(12, "Cannot allocate memory")

    watched = Watched(start=fail)
    await watched.load()
    await settle()
    assert (watched.state, watched.supervisor.measured().restarts) == (EngineState.IDLE, LOAD_ATTEMPTS)


@in_loop
async def test_what_the_host_does_wrong_is_logged_and_bars_the_engine(caplog: pytest.LogCaptureFixture):
    def fail() -> None:
        raise RuntimeError("a mistake")

    watched = Watched(start=fail)
    watched.supervisor._backoff = Backoff(watched.clock)
    await watched.load()
    assert watched.state is EngineState.IDLE
    assert "a mistake" in caplog.text
    assert isinstance(refusal(watched), InternalError)


@in_loop
async def test_an_engine_that_is_unloaded_ends_its_worker():
    watched = Watched()
    await watched.load()
    await watched.report(READY)
    await watched.supervisor.unload()
    assert (watched.state, watched.workers[0].ended) == (EngineState.IDLE, True)
    assert watched.supervisor.socket == ""
    assert watched.supervisor.measured().unloads == 1


@in_loop
async def test_an_engine_that_is_unloaded_before_its_worker_starts_is_idle():
    watched = Watched()
    watched.supervisor.start()
    await watched.supervisor.unload()
    assert (watched.state, watched.workers) == (EngineState.IDLE, [])
