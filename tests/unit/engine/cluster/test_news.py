"""What an actor remembers of its worker, without Ray and without a worker."""

from __future__ import annotations

from service.engine.cluster.news import LatestReports
from service.engine.cluster.remote_process import RemoteCpuTime
from service.protocol.reports import Activity, EngineDied, LoadFailed, Pulse, Ready
from tests.support.loop import Clock

READY = Ready(4096, "cpu", 7, "tls://10.0.0.2:7434")


def test_each_report_comes_once_and_in_order():
    latest = LatestReports()
    latest.add(READY)
    latest.add(Activity(1, 1))
    first = latest.after(0, 0)
    assert first.reports == [READY, Activity(1, 1)]
    assert latest.after(first.number, 0).reports == []
    latest.add(Pulse(1, 0))
    assert latest.after(first.number, 0).reports == [Pulse(1, 0)]


def test_a_host_that_is_started_anew_gets_the_last_report_of_each_kind():
    latest = LatestReports()
    for report in (READY, Pulse(0, 0), Activity(1, 1), Pulse(1, 0), Activity(1, 0)):
        latest.add(report)
    assert latest.after(0, 0).reports == [READY, Pulse(1, 0), Activity(1, 0)]


def test_the_end_of_the_worker_comes_after_its_last_report():
    latest = LatestReports()
    latest.add(EngineDied("out of memory"))
    latest.end(70)
    news = latest.after(0, 60)
    assert (news.reports, news.has_ended, news.status) == ([EngineDied("out of memory")], True, 70)
    assert latest.after(news.number, 60).has_ended


def test_a_worker_is_busy_while_it_loads_and_while_requests_run():
    latest = LatestReports()
    assert latest.is_busy
    latest.add(READY)
    assert not latest.is_busy
    latest.add(Activity(1, 1))
    assert latest.is_busy
    latest.add(Activity(1, 0))
    assert not latest.is_busy


def test_a_worker_that_did_not_load_or_has_ended_is_not_busy():
    failed, ended = LatestReports(), LatestReports()
    failed.add(LoadFailed("no such file"))
    ended.add(READY)
    ended.add(Activity(1, 1))
    ended.end(-9)
    assert not failed.is_busy
    assert not ended.is_busy


def test_a_pulse_has_an_age():
    clock = Clock()
    latest = LatestReports(clock)
    clock.now += 3
    assert latest.pulse_age == 3
    latest.add(Pulse(0, 0))
    assert latest.pulse_age == 0


def test_cpu_time_that_is_not_known_counts_as_used():
    clock = Clock()
    cpu = RemoteCpuTime(clock)
    assert cpu.seconds(own=True) is None
    cpu.add((1.0, 5.0))
    assert (cpu.seconds(own=True), cpu.seconds(own=False)) == (1.0, 5.0)
    clock.now += 2
    assert cpu.seconds(own=False) == 7.0


def test_a_worker_that_used_no_cpu_time_is_seen_although_news_were_late():
    clock = Clock()
    cpu = RemoteCpuTime(clock)
    cpu.add((1.0, 5.0))
    cpu.seconds(own=False)
    clock.now += 1
    late = cpu.seconds(own=False)
    clock.now += 1
    cpu.add((1.0, 5.0))
    assert cpu.seconds(own=False) == late
