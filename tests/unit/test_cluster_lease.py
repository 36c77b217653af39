"""The lock of an endpoint, against a store that keeps the API server's promises: resourceVersion and one clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.errors import ClusterError, LockError


class Store:
    """Leases as an API server keeps them; time moves only when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.objects: dict[str, Any] = {}
        self.version = 0
        self.writes = 0
        self.configuration = SimpleNamespace(host="https://cluster.test", verify_ssl=True)

    def call_api(self, path: str, method: str, *, body: Any = None, **_: Any) -> Any:
        answer = getattr(self, method.lower())(path, body)
        status, content = answer
        return SimpleNamespace(
            status=status,
            data=json.dumps(content).encode(),
            headers={"Date": format_datetime(self.now, usegmt=True)},
        )

    def get(self, path: str, _: Any) -> tuple[int, Any]:
        return (200, self.objects[path]) if path in self.objects else (404, {"kind": "Status"})

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        path = f"{path}/{body['metadata']['name']}"
        return self._store(path, body) if path not in self.objects else (409, {"kind": "Status"})

    def put(self, path: str, body: Any) -> tuple[int, Any]:
        if path not in self.objects:
            return 404, {"kind": "Status"}
        if body["metadata"]["resourceVersion"] != self.objects[path]["metadata"]["resourceVersion"]:
            return 409, {"kind": "Status"}
        return self._store(path, body)

    def _store(self, path: str, body: Any) -> tuple[int, Any]:
        self.version += 1
        self.writes += 1
        stored = json.loads(json.dumps(body))
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = stored
        return 200, stored

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_namespace_that_is_not_there_is_no_crowd_of_writers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"kind": "Status", "message": 'namespaces "models" not found', "reason": "NotFound"}
    monkeypatch.setattr(store, "post", lambda path, body: (404, told))
    with pytest.raises(ClusterError, match=r'namespaces "models" not found\. Make the namespace'):
        Lock(store).acquire("a")


class Lock:
    """The lock of one endpoint, seen from one place."""

    def __init__(self, store: Store) -> None:
        self.cluster = Cluster(api_client=store, patience=0)
        self.where = {"namespace": "models", "endpoint_object": "qwen"}

    def acquire(self, holder: str, *, seconds: int = 30) -> int | None:
        return lease.acquire(self.cluster, **self.where, holder=holder, seconds=seconds)

    def renew(self, holder: str, fencing: int) -> None:
        lease.renew(self.cluster, **self.where, holder=holder, fencing=fencing, seconds=30)

    def release(self, holder: str, fencing: int | None = None) -> bool:
        return lease.release(self.cluster, **self.where, holder=holder, fencing=fencing)

    def held(self, holder: str, fencing: int) -> bool:
        return lease.still_held(self.cluster, **self.where, holder=holder, fencing=fencing)

    def holder(self) -> lease.Holder | None:
        return lease.holder_of(self.cluster, **self.where)


def test_the_first_who_asks_gets_it(store: Store) -> None:
    lock = Lock(store)
    assert lock.acquire("run-a") == 1
    assert lock.acquire("run-b") is None
    found = lock.holder()
    assert found is not None
    assert (found.holder, found.fencing, found.live) == ("run-a", 1, True)


def test_a_retried_task_gets_its_own_number_again(store: Store) -> None:
    lock = Lock(store)
    assert lock.acquire("run-a") == 1
    store.later(40)
    assert lock.acquire("run-a") == 1
    assert lock.held("run-a", 1)


def test_an_expired_lock_is_taken_over_and_the_old_holder_learns_of_it(store: Store) -> None:
    lock = Lock(store)
    assert lock.acquire("run-a") == 1
    store.later(31)
    assert lock.acquire("run-b") == 2
    assert not lock.held("run-a", 1)
    with pytest.raises(LockError, match="run-b holds 2"):
        lock.renew("run-a", 1)
    assert not lock.release("run-a", 1)
    assert lock.held("run-b", 2)


def test_renewing_keeps_it(store: Store) -> None:
    lock = Lock(store)
    lock.acquire("run-a")
    for _ in range(5):
        store.later(20)
        lock.renew("run-a", 1)
    assert lock.held("run-a", 1)
    assert lock.acquire("run-b") is None


def test_in_order_of_arrival(store: Store) -> None:
    lock = Lock(store)
    lock.acquire("run-a")
    assert lock.acquire("run-b") is None
    assert lock.acquire("run-c") is None
    lock.release("run-a")
    assert lock.acquire("run-c") is None
    assert lock.acquire("run-b") == 2
    lock.release("run-b")
    assert lock.acquire("run-d") is None
    assert lock.acquire("run-c") == 3


def test_a_waiter_that_is_gone_keeps_nobody_waiting(store: Store) -> None:
    lock = Lock(store)
    lock.acquire("run-a", seconds=300)
    lock.acquire("run-b")
    for _ in range(4):
        store.later(20)
        assert lock.acquire("run-c") is None
    lock.release("run-a")
    assert lock.acquire("run-c") == 2


def test_a_waiter_can_leave(store: Store) -> None:
    lock = Lock(store)
    lock.acquire("run-a")
    lock.acquire("run-b")
    assert not lock.release("run-b")
    lock.release("run-a")
    assert lock.acquire("run-c") == 2


def test_asking_often_writes_seldom(store: Store) -> None:
    lock = Lock(store)
    lock.acquire("run-a", seconds=300)
    lock.acquire("run-b")
    before = store.writes
    for _ in range(30):
        store.later(1)
        lock.acquire("run-b")
    assert store.writes - before == 2


def test_releasing_twice_or_what_was_never_held_changes_nothing(store: Store) -> None:
    lock = Lock(store)
    assert not lock.release("run-a")
    lock.acquire("run-a")
    assert lock.release("run-a")
    assert not lock.release("run-a")
    assert lock.holder() is None
    assert lock.acquire("run-b") == 2


def test_a_writer_in_between_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, put = Lock(store), store.put

    def raced(path: str, body: Any) -> tuple[int, Any]:
        monkeypatch.setattr(store, "put", put)
        store.objects[path]["spec"]["holderIdentity"] = "run-b"
        store.objects[path]["metadata"]["resourceVersion"] = "raced"
        return put(path, body)

    lock.acquire("run-a")
    lock.release("run-a")
    monkeypatch.setattr(store, "put", raced)
    assert lock.acquire("run-c") is None


def test_a_queue_edited_by_hand_is_begun_anew(store: Store) -> None:
    lock = Lock(store)
    lock.acquire("run-a")
    [stored] = store.objects.values()
    stored["metadata"]["annotations"] = {lease.QUEUE_ANNOTATION: "not json"}
    assert lock.acquire("run-b") is None
    assert [w.holder for w in lease.waiters_of(lock.cluster, **lock.where)] == ["run-b"]


def test_the_queue_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "MOST_WAITERS", 2)
    lock = Lock(store)
    for run in ("run-a", "run-b", "run-c"):
        lock.acquire(run)
    with pytest.raises(LockError, match="too many runs wait"):
        lock.acquire("run-d")


class Runs(RuleBasedStateMachine):
    """Any number of runs that ask, renew, give back, die and come back, in any order."""

    runs = st.sampled_from(["a", "b", "c", "d"])

    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.lock = Lock(self.store)
        self.numbers: dict[str, int] = {}
        self.highest = 0

    @rule(run=runs)
    def acquire(self, run: str) -> None:
        fencing = self.lock.acquire(run)
        if fencing is None:
            return
        assert fencing >= self.highest
        if fencing == self.highest and self.highest:
            assert self.numbers.get(run) == fencing, "the same number went to another run"
        self.numbers = {run: fencing}
        self.highest = fencing

    @precondition(lambda self: self.numbers)
    @rule()
    def renew(self) -> None:
        [(run, fencing)] = self.numbers.items()
        self.lock.renew(run, fencing)
        assert self.lock.held(run, fencing)

    @rule(run=runs)
    def release(self, run: str) -> None:
        assert self.lock.release(run) == (run in self.numbers)
        self.numbers.pop(run, None)

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.store.later(seconds)

    @invariant()
    def one_holder_at_most(self) -> None:
        held = [run for run in "abcd" for number in range(1, self.highest + 1) if self.lock.held(run, number)]
        assert set(held) <= set(self.numbers)


Runs.TestCase.settings = settings(stateful_step_count=25, deadline=None)
TestRuns = Runs.TestCase
