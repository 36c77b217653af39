"""Waits of one process share their watches, and what a watch goes through takes nothing from any of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from slipway.cluster import mirror, shared
from slipway.cluster.objects import RELEASE_LABEL
from slipway.cluster.reading import Collection, Key, trimmed
from slipway.cluster.shared import Seat, seat
from slipway.cluster.verdict import Verdict
from slipway.cluster.waiting import Target
from slipway.cluster.watch import wait_for_end, wait_for_workload, wait_until_gone
from slipway.errors import ClusterError
from tests.unit.watch_api import NAMESPACE, RELEASE, WatchApi, pod, serving, stateful_set

KINDS = 3  # of watches that a wait for a StatefulSet's pods that are not Ready needs: workloads, pods, events


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(shared, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(shared, "_TICK_SECONDS", 0.2)


def run(story: Callable[[WatchApi], Awaitable[None]]) -> None:
    """Tell a story with a server of its own, and see that nothing is left of it."""

    async def whole() -> None:
        async with asyncio.timeout(15), serving() as api:
            await story(api)
            assert shared._views[asyncio.get_running_loop()] == {}
            await api.until(lambda: api.watching == 0)
        assert [task for task in asyncio.all_tasks() if "mirror" in task.get_name()] == []

    asyncio.run(whole())


@asynccontextmanager
async def taken(api: WatchApi) -> AsyncIterator[Seat]:
    async with seat("here", NAMESPACE, opener=api.open) as one:
        yield one


async def wait_for(api: WatchApi, name: str, **more: Any) -> Verdict:
    async with taken(api) as one:
        return await wait_for_workload(
            one,
            Target(kind="StatefulSet", namespace=NAMESPACE, name=name, release=RELEASE, endpoint=name),
            deadline_seconds=20,
            **more,
        )


async def begin(api: WatchApi, *names: str, **more: Any) -> list[asyncio.Task[Verdict]]:
    """Workloads under way, a wait for each, and all watches open."""
    for name in names:
        await api.put("statefulsets", stateful_set(name, ready=False))
        await api.put("pods", pod(name, ready=False))
    tasks = [asyncio.create_task(wait_for(api, name, **more)) for name in names]
    await api.until(lambda: api.watching == KINDS)
    return tasks


async def finish(api: WatchApi, *names: str) -> None:
    for name in names:
        await api.put("pods", pod(name, ready=True))
        await api.put("statefulsets", stateful_set(name, ready=True))


def test_a_hundred_waits_hold_one_watch_a_kind_and_one_client() -> None:
    names = [f"endpoint-{number}" for number in range(100)]

    async def story(api: WatchApi) -> None:
        tasks = await begin(api, *names)
        await finish(api, *names)
        verdicts = await asyncio.gather(*tasks)
        assert {verdict.what for verdict in verdicts} == {"1 of 1 pod ready"}
        assert (api.most_watching, api.clients) == (KINDS, 1)

    run(story)


async def _expire(api: WatchApi) -> None:
    await api.put("pods", pod("other", ready=False))  # nobody hears of it by a watch
    api.forget()
    await api.cut()


async def _expire_by_event(api: WatchApi) -> None:
    await api.say_error(410)


async def _break(api: WatchApi) -> None:
    await api.cut()


async def _go_away(api: WatchApi) -> None:
    api.away = True
    await api.cut()
    asyncio.get_running_loop().call_later(0.3, setattr, api, "away", False)


async def _overload(api: WatchApi) -> None:
    api.refusing = 429
    await api.cut()
    asyncio.get_running_loop().call_later(0.3, setattr, api, "refusing", 0)


async def _renew_token(api: WatchApi) -> None:
    api.token = "second"
    await api.cut()


FAULTS = {
    "the version expired, as a status": _expire,
    "the version expired, as an event": _expire_by_event,
    "a broken connection": _break,
    "a server that restarts": _go_away,
    "a server that is overloaded": _overload,
    "a token that expired": _renew_token,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wait_outlives(fault: str) -> None:
    async def story(api: WatchApi) -> None:
        tasks = await begin(api, "a", "b")
        await FAULTS[fault](api)
        await finish(api, "a", "b")
        verdicts = await asyncio.gather(*tasks)
        assert [verdict.state for verdict in verdicts] == ["available", "available"]

    run(story)


def test_who_waits_is_told_that_the_server_is_away() -> None:
    told: list[str] = []

    async def story(api: WatchApi) -> None:
        [task] = await begin(api, "a", on_progress=told.append)
        api.away = True
        await api.cut()
        await api.until(lambda: any("gave no answer" in line for line in told))
        api.away = False
        await finish(api, "a")
        await task

    run(story)


def test_a_wait_that_is_cancelled_leaves_the_others_their_watches() -> None:
    async def story(api: WatchApi) -> None:
        first, second = await begin(api, "a", "b")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert api.watching == KINDS
        await finish(api, "b")
        assert (await second).state == "available"

    run(story)


def test_the_last_to_be_cancelled_closes_them() -> None:
    async def story(api: WatchApi) -> None:
        tasks = await begin(api, "a", "b")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(story)


def test_what_a_watch_has_not_told_yet_is_not_taken_for_what_is() -> None:
    """A new release was applied a moment ago, and the watch still shows the one before, all Ready."""

    async def story(api: WatchApi) -> None:
        await finish(api, "a")
        async with taken(api) as one:
            await begin_reading(one, "a")
            api.deaf = True
            await api.put("statefulsets", stateful_set("a", ready=False))
            await api.put("pods", pod("a", ready=False))
            waiting = asyncio.create_task(wait_for(api, "a"))
            await api.until(lambda: any(line.endswith("statefulsets/a") for line in api.asked))
            assert not waiting.done()
            api.deaf = False
            await finish(api, "a")
            assert (await waiting).state == "available"

    run(story)


async def begin_reading(one: Seat, name: str) -> None:
    """Fill the mirrors."""
    read = shared.Read(
        collection=Collection("apps/v1", "statefulsets", NAMESPACE), key=Key("name", name), fresh=False
    )
    assert (await one.read(read)).objects
    pods = shared.Read(collection=Collection("v1", "pods", NAMESPACE), key=Key("endpoint", name), fresh=False)
    assert (await one.read(pods)).objects


def test_a_connection_that_cannot_be_opened_fails_whoever_waits() -> None:
    async def story(api: WatchApi) -> None:
        api.url = "http://elsewhere.test"
        with pytest.raises(ClusterError, match="would not be verified"):
            await wait_for(api, "a")

    run(story)


def test_pods_that_drain_and_a_pod_that_ends_are_waited_for_on_the_same_watch() -> None:
    said: list[str] = []

    async def story(api: WatchApi) -> None:
        await api.put("pods", pod("old", ready=True, release="r0"))
        await api.put("pods", pod("probe", ready=True))

        async def gone() -> list[str]:
            async with taken(api) as one:
                place = {"namespace": NAMESPACE, "endpoint": "old", "but_release": "r9"}
                return await wait_until_gone(one, **place, seconds=20, say=said.append)

        async def ended() -> None:
            async with taken(api) as one:
                await wait_for_end(one, namespace=NAMESPACE, name="probe-0", seconds=20, say=said.append)

        tasks = [asyncio.create_task(gone()), asyncio.create_task(ended())]
        await api.until(lambda: api.watching == 1)
        assert not any(task.done() for task in tasks)
        await api.put("pods", pod("old", ready=True, release="r0"), gone=True)
        await api.put("pods", pod("probe", ready=False, phase="Succeeded"))
        assert await asyncio.gather(*tasks) == [[], None]
        assert api.most_watching == 1

    run(story)


def test_those_that_are_left_when_the_time_is_over_are_named() -> None:
    async def story(api: WatchApi) -> None:
        await api.put("pods", pod("old", ready=True, release="r0"))
        async with taken(api) as one:
            place = {"namespace": NAMESPACE, "endpoint": "old", "but_release": None}
            assert await wait_until_gone(one, **place, seconds=0.1, say=print) == ["old-0"]

    run(story)


def test_a_mirror_of_events_forgets_the_oldest() -> None:
    async def story(api: WatchApi) -> None:
        for number in range(10):
            about = {"name": f"pod-{number}"}
            await api.put("events", {"metadata": {"name": f"e{number}"}, "involvedObject": about})
        link = shared.SharedLink(api.open)
        one = mirror.Mirror(
            Collection("v1", "events", NAMESPACE), link=link, on_change=lambda keys: None, most=4
        )
        try:
            assert (await one.read(Key("about", "pod-9"))).objects
            assert (await one.read(Key("about", "pod-5"))).objects == []
            assert len(one) == 4
        finally:
            await mirror.stop([one])
            await link.close()
            shared._views.setdefault(asyncio.get_running_loop(), {})

    run(story)


def test_what_is_kept_holds_no_values_of_environments() -> None:
    kept = trimmed({**pod("a", ready=True), "kind": "Pod"})
    assert "SECRET" not in str(kept)
    assert kept["metadata"]["labels"][RELEASE_LABEL] == RELEASE
    assert kept["spec"]["containers"] == [{"name": "server", "image": "x"}]
