"""Rounds of chaos: what each of them does is drawn from a seed, what is left after it is held against the history.

A round brings an endpoint into a known state, starts one change, ends one process at a moment of it without a warning,
and waits until nothing moves any more. Rounds share nothing but the machine, so that each can be run alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sandbox import machine, supervisor
from sandbox.settings import CHECKOUT, NODE_NAME, Settings
from slipway.cluster.objects import Object
from slipway.cluster.verdict import condition
from slipway.releases.records import Release
from tests.e2e.small import Small, patiently

POD, WITH_TASKS = "serving pod", "airflow-scheduler and its tasks"
VICTIMS = (
    "kube-apiserver",
    "airflow-triggerer",
    POD,
    "airflow-scheduler",
    "etcd",
    "airflow-api-server",
    "kubelet",
    WITH_TASKS,
    "containerd",
    "airflow-dag-processor",
    "kube-controller-manager",
)
Change = Literal["first", "first that crashes", "good", "crash", "wrong", "image"]
CHANGES: tuple[Change, ...] = get_args(Change)
WEIGHTS = (3, 2, 8, 3, 3, 1)
STRATEGIES = (None, "recreate", "rolling", "blue-green")
_BEGIN = ("resolve", "lock", "check")
_UP_TO_WAIT = (*_BEGIN, "download", "apply", "wait")
STEPS: dict[Change, tuple[str, ...]] = {
    "first": (*_UP_TO_WAIT, "probe", "publish", "probe_published", "record"),
    "first that crashes": (*_UP_TO_WAIT, "record"),
    "good": (*_UP_TO_WAIT, "probe", "publish", "probe_published", "record"),
    "crash": (*_UP_TO_WAIT, "record", "record", "record"),
    "wrong": (*_UP_TO_WAIT, "probe", "record", "record", "record"),
    "image": (*_BEGIN, "record"),
}
ROUND_SECONDS = 900.0
CODE = ("plugins", "dags", "include/templates", "sandbox", "tests/e2e", "tests/unit/small_runtime.py")


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round does.

    Attributes:
        change: what is deployed: a first release or another one, and what is wrong with it.
        strategy: as the run asks for it.
        victim: what is ended.
        step: the step of the run in which that happens.
        delay: so many seconds after the step has begun; the last step takes longest where it goes back.
        newest: of several serving pods, which one.
    """

    number: int
    change: Change
    strategy: str | None
    victim: str
    step: str
    delay: float
    newest: bool

    @property
    def is_first(self) -> bool:
        return self.change.startswith("first")

    @property
    def can_be_good(self) -> bool:
        return self.change in ("first", "good")

    def __str__(self) -> str:
        how = f" by {self.strategy}" if self.strategy else ""
        return f"{self.number}: {self.change}{how}; {self.victim}, {self.delay} s into {self.step}"


def draw(seed: str, number: int) -> Round:
    """Draw a round from its number: every victim comes in each eleven rounds, all else is chance."""
    block, place = divmod(number - 1, len(VICTIMS))
    victims = random.Random(f"{seed} block {block}").sample(VICTIMS, len(VICTIMS))
    dice = random.Random(f"{seed} round {number}")
    [change] = dice.choices(CHANGES, WEIGHTS)
    step = dice.choice(STEPS[change])
    strategy = None if change.startswith("first") else dice.choice(STRATEGIES)
    returns = change in ("crash", "wrong") and strategy in ("recreate", "rolling")
    longest = 4.0 if step != "record" else 15.0 if returns else 1.5
    return Round(
        number=number,
        change=change,
        strategy=strategy,
        victim=victims[place],
        step=step,
        delay=round(dice.uniform(0, longest), 2),
        newest=dice.random() < 0.5,
    )


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a round ended.

    Attributes:
        killed: what was ended, and in which state the run was then.
        run: the state of the run.
        release: the status of its release; None when it made none.
        outcome: what serves in the end.
        wrong: what must not be; empty when the round held.
    """

    round: int
    drawn: str
    killed: str
    run: str
    release: str | None
    reason: str | None
    outcome: str
    seconds: float
    wrong: list[str]


def play(one: Round, small: Small, config: Settings) -> Result:
    """Play a round to its end."""
    if one.is_first:
        small.removed()
        before = None
    else:
        before = small.good()
    started = time.monotonic()
    dag_id = "deploy_endpoint" if one.is_first else "redeploy_endpoint"
    run_id = f"chaos-{one.number}-{time.time_ns()}"
    small.trigger(dag_id, run_id=run_id, **_conf(one, run_id))
    killed, leftovers = _strike(one, small, config, dag_id, run_id)
    try:
        outcome = small.follow(dag_id, run_id, seconds=ROUND_SECONDS)
        recover(small, config)
        release = small.reconcile(f"{dag_id}/{run_id}")
        wrong = small.settle() + judge(one, outcome.state, before=before, release=release, small=small)
    finally:
        leftovers()
    good = small.history.last_good(small.endpoint)
    return Result(
        round=one.number,
        drawn=str(one),
        killed=killed,
        run=outcome.state,
        release=release.status if release else None,
        reason=release.failure if release else None,
        outcome=_outcome(good, before=before, release=release),
        seconds=round(time.monotonic() - started, 1),
        wrong=wrong,
    )


def judge(
    one: Round, run: str, *, before: Release | None, release: Release | None, small: Small
) -> list[str]:
    """What the history and the run say that must not be, whatever was ended and when."""
    good = small.history.last_good(small.endpoint)
    wrong = []
    if release and release.status not in ("good", "failed"):
        wrong.append(f"{release.title} is {release.status}: {release.failure}")
    if release and release.status == "failed" and not release.failure:
        wrong.append(f"{release.title} failed without a reason")
    if release and release.status == "good" and not one.can_be_good:
        wrong.append(f"{release.title} is good, and cannot be")
    if run == "success" and (release is None or release.status != "good"):
        wrong.append(f"the run is green, its release {release.status if release else 'was never made'}")
    wanted = release if release and release.status == "good" else before
    if good != wanted:
        wrong.append(
            f"{good.title if good else 'nothing'} is good, not {wanted.title if wanted else 'nothing'}"
        )
    return wrong


def _conf(one: Round, run_id: str) -> dict[str, Any]:
    args = [f"--answer={run_id}"]
    if one.change.endswith(("crash", "crashes")):
        args.append("--fault=crash")
    if one.change == "wrong":
        args.append("--fault=wrong")
    overrides: dict[str, Any] = {"args": args}
    if one.change == "image":
        overrides["image"] = "localhost/slipway/none:0"
    return {"overrides": overrides, "reason": f"chaos {one}", "strategy": one.strategy}


def _outcome(good: Release | None, *, before: Release | None, release: Release | None) -> str:
    if good is None:
        return "stopped: none was ever good"
    if release and good.id == release.id:
        return "the new release"
    return "the last good release" if before and good.id == before.id else f"{good.title}"


def _strike(
    one: Round, small: Small, config: Settings, dag_id: str, run_id: str
) -> tuple[str, Callable[[], None]]:
    """End the victim in its moment; returns what was ended, and what takes away its orphans after the round.

    A scheduler that is killed alone leaves the tasks that it had started to themselves: they go on.
    """
    came = small.wait_for_step(
        dag_id, run_id, one.step, states=("running", "deferred", "success", "failed", "upstream_failed")
    )
    if not came:
        return f"nothing: the run ended before {one.step}", lambda: None
    time.sleep(one.delay)
    states = patiently(lambda: small.states(dag_id, run_id))
    now = ", ".join(f"{step} {state}" for step, state in states.items() if state in ("running", "deferred"))
    if one.victim == POD:
        pods = sorted(patiently(small.pods), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        if not pods:
            return f"nothing: there was no serving pod ({now})", lambda: None
        pod = pods[-1] if one.newest else pods[0]
        pids = processes_of(pod)
        kill(pids)
        return f"{len(pids)} processes of pod {pod['metadata']['name']} ({now})", lambda: None
    pid = pid_of(config, one.victim.removesuffix(" and its tasks"))
    children = list(descendants(pid))
    kill([pid, *(children if one.victim == WITH_TASKS else [])])
    return f"{one.victim}, process {pid} ({now})", lambda: kill(one for one in children if _lives(one))


def recover(small: Small, config: Settings, *, seconds: float = 240.0) -> None:
    """Wait until all parts of the sandbox are themselves again."""
    deadline = time.monotonic() + seconds
    while sick := list(_sick(small, config)):
        assert time.monotonic() < deadline, f"not there again: {', '.join(sick)}"
        time.sleep(0.5)


def _sick(small: Small, config: Settings) -> Iterator[str]:
    for part in supervisor.parts(config):
        if part.state in ("STARTING", "BACKOFF", "FATAL"):
            yield part.name
    health = patiently(lambda: small.airflow.get("/api/v2/monitor/health"))
    for name in ("metadatabase", "scheduler", "dag_processor", "triggerer"):
        if (health.get(name) or {}).get("status") != "healthy":
            yield name
    node = patiently(lambda: small.cluster.get(api_version="v1", kind="Node", name=NODE_NAME))
    if node is None or condition(node, "Ready").get("status") != "True":
        yield f"node {NODE_NAME}"


def pid_of(config: Settings, part: str) -> int:
    """The machine's PID of a part that supervisord runs."""
    deadline = time.monotonic() + 60
    while True:
        [found] = [one for one in supervisor.parts(config) if one.name == part]
        if found.state == "RUNNING" and (pid := machine.host_pids(config).get(found.pid)):
            return pid
        assert time.monotonic() < deadline, f"{part} is {found.state}"
        time.sleep(0.2)


def descendants(pid: int) -> Iterator[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    waiting = parents.get(pid, [])
    while waiting:
        child = waiting.pop()
        yield child
        waiting += parents.get(child, [])


def processes_of(pod: Object) -> list[int]:
    """The processes of a pod's server on this machine, which is the node."""
    uid, found = pod["metadata"]["uid"], []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            mine = uid in (entry / "cgroup").read_text().replace("_", "-")
            if mine and b"python3" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill(pids: Any) -> None:
    """End processes without a warning; one that is gone already is no fault."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Results:
    """The rounds that were played, one JSON object a line, so that a second start goes on after the last.

    They belong to a seed and to the code: a change of either begins a new file.
    """

    def __init__(self, config: Settings, seed: str) -> None:
        self.file = config.home / "chaos" / f"seed-{seed}-{code_hash()}.jsonl"

    def of(self, number: int) -> Result | None:
        """The result of a round that was played before."""
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        found = [Result(**json.loads(line)) for line in lines]
        return next((one for one in found if one.round == number), None)

    def keep(self, result: Result) -> None:
        """Write a result down."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def code_hash() -> str:
    """A hash of all code that a round depends on."""
    digest = hashlib.sha256()
    for name in CODE:
        root = CHECKOUT / name
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            if path.is_file() and path.suffix in (".py", ".j2") and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
