"""Restarts and faults while ten sessions are at work: reliability of the whole, as a client sees it."""

from __future__ import annotations

import time
from collections import Counter

import anyio
import pytest

from collector import Collector
from composed import PAGE, Composed, docker
from load import at_work, eventually_ok, failures, go_on
from waiting import eventually

#: Questions to Redis that were not answered, or not in time; browsers that were leased.
UNANSWERED = r'browserfleet_store_requests_total\{outcome="(?:late|failed)"\}'
GRANTED = r"browserfleet_leases_granted_total\{.*\}"
#: What a call is told that was under way when its browser was lost.
LOST = {"lease_lost", "browser_gone"}
#: What is told while Redis is away: by the tool's error, or by HTTP's 503 to clients whose connection is in it.
AWAY = {"store_unavailable", "Server returned an error response"}


#: The root of a call's trace, and the step in which a daemon begins a session with what was kept of it.
CALL, RESTORING = "tools/call", "begin with what is kept"


async def traced(collector: Collector, outcomes: dict[str, int], restored: int) -> None:
    """The traces show as much: at least so many calls that failed, by their outcomes and no others, and so many sessions that
    began anew, each in the trace of a call."""
    failed: Counter[str] = Counter()

    def arrived() -> bool:
        failed.clear()
        failed.update(span.attributes["browserfleet.outcome"] for span in collector.named(CALL) if span.failed)
        enough = all(failed[outcome] >= count for outcome, count in outcomes.items())
        calls = {span.trace for span in collector.named(CALL)}
        return enough and sum(span.trace in calls for span in collector.named(RESTORING)) >= restored

    await eventually(arrived, f"{failed} are {outcomes}, and {restored} have begun anew", 30)
    assert set(failed) <= set(outcomes), failed


async def in_thread(function: object, *arguments: str) -> None:
    """Does something that blocks while the load goes on."""
    await anyio.to_thread.run_sync(lambda: function(*arguments))  # type: ignore[operator]


async def test_a_rolling_restart_fails_no_call(fleet: Composed, collector: Collector) -> None:
    """Each service, one after the other: front ends finish what they have, daemons move their sessions, nothing is lost."""
    began = time.monotonic()
    async with at_work(fleet) as workers:
        for service in (*fleet.front_ends, *fleet.pools):
            await in_thread(fleet.compose, "restart", service)
            await in_thread(fleet.await_well)
            await go_on(workers)
            assert failures(workers) == ({}, []), service
    # Each call was counted once: nothing ran twice and nothing was forgotten.
    assert [worker.count for worker in workers] == [worker.calls for worker in workers]
    calls, moves = sum(worker.calls for worker in workers), sum(worker.moves for worker in workers)
    assert moves >= len(workers), "every session was on one of the daemons"
    await traced(collector, {}, len(workers))
    print(f"{calls} calls in {time.monotonic() - began:.0f} s, {moves} moves, 0 failed")


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_redis_is_away_for_a_while(fleet: Composed, collector: Collector, how: str) -> None:
    """Row 30: calls are told to come back, no browser is lost, and everything goes on when it is there again."""
    back = {"pause": "unpause", "kill": "start"}[how]
    redis = fleet.container("redis")
    async with at_work(fleet) as workers:
        leases = await anyio.to_thread.run_sync(fleet.leases)
        unanswered = [fleet.metric(name, UNANSWERED) for name in fleet.front_ends]
        await in_thread(docker, how, redis)
        try:
            await eventually(lambda: all(worker.failed for worker in workers), "everybody is told", 30)
            told = await anyio.to_thread.run_sync(fleet.initialize)
            assert told.status_code == 503 and int(told.headers["retry-after"]) > 0, "a front end says so, not the proxy"
            await anyio.sleep(10)
        finally:
            await in_thread(docker, back, redis)
        began = time.monotonic()
        await go_on(workers, 1)
        took = time.monotonic() - began
        failed, broken = failures(workers)
        assert set(failed) == AWAY and not broken, (failed, broken)
        assert await anyio.to_thread.run_sync(fleet.leases) == leases, "no lease has ended"
        assert [worker.moves for worker in workers] == [0] * len(workers)
        for name, before in zip(fleet.front_ends, unanswered, strict=True):
            assert fleet.metric(name, UNANSWERED) > before, f"{name} has counted it"
    assert took < 5, f"everybody goes on after {took:.1f} s"
    # Clients of `initialize` that are told by HTTP have no call yet, and no trace.
    await traced(collector, {"store_unavailable": failed["store_unavailable"]}, 0)
    print(f"{sum(failed.values())} calls were told so; everybody goes on {took:.1f} s after its return")


async def test_redis_is_restarted(fleet: Composed, collector: Collector) -> None:
    """Row 45: a restart is a short absence."""
    async with at_work(fleet) as workers:
        leases = await anyio.to_thread.run_sync(fleet.leases)
        await in_thread(docker, "restart", fleet.container("redis"))
        await go_on(workers)
        failed, broken = failures(workers)
        assert set(failed) <= AWAY and not broken, (failed, broken)
        assert await anyio.to_thread.run_sync(fleet.leases) == leases
    told = failed["store_unavailable"]
    await traced(collector, {"store_unavailable": told}, 0)
    print(f"{sum(failed.values())} calls were told so")


async def test_a_daemon_is_killed(fleet: Composed, collector: Collector) -> None:
    """Row 15: its sessions are restored on the other one, and every call that was lost is told so."""
    async with at_work(fleet) as workers:
        held = (await anyio.to_thread.run_sync(fleet.leases))["pool-1"]
        assert held > 0, "the load is on both"
        granted = fleet.metric("pool-2", GRANTED)
        await in_thread(docker, "kill", "--signal", "KILL", fleet.container("pool-1"))
        try:
            await eventually(lambda: sum(worker.moves for worker in workers) >= held, "they are restored elsewhere", 60)
            await go_on(workers)
            assert fleet.metric("pool-2", GRANTED) - granted == held, "the other one has counted them"
        finally:
            await in_thread(docker, "start", fleet.container("pool-1"))
        failed, broken = failures(workers)
        assert set(failed) <= LOST and sum(failed.values()) <= held and not broken, (failed, broken)
    await traced(collector, {code: failed[code] for code in LOST}, held)
    print(f"{held} sessions moved, {sum(failed.values())} calls were told of a loss")


async def test_a_front_end_that_is_paused_harms_nobody(fleet: Composed, collector: Collector) -> None:
    """Row 27: while it stands still its session's browser moves; when it goes on, its old lease is worth nothing."""
    async with fleet.connect()("http-modern") as agent:
        await agent.ok("browser_navigate", url=PAGE)
        await agent.evaluate("() => { localStorage.name = 'before'; return 0 }")
        await in_thread(docker, "pause", fleet.container("frontend-1"))
        try:
            [holder] = [name for name, leases in (await anyio.to_thread.run_sync(fleet.leases)).items() if leases]
            await in_thread(fleet.compose, "restart", holder)
            await eventually_ok(agent)
        finally:
            await in_thread(docker, "unpause", fleet.container("frontend-1"))
        # The proxy sends every other call to the one that stood still, and it knows where the browser is now.
        for _ in range(4):
            assert await agent.evaluate("() => localStorage.name") == "before"
    await traced(collector, dict.fromkeys(LOST, 0), 1)
