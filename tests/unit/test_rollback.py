"""Going back: by hand to a release that was good, and by itself when a new one fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from slipway.airflow_rest import AirflowRest
from slipway.catalog.read import read_catalog
from slipway.cli import main
from slipway.cluster import lease
from slipway.cluster.fencing import FencedCluster
from slipway.errors import LockError, UsageError
from slipway.manifests.planning import make_plan
from slipway.operators.prober import PodEndTrigger
from slipway.operators.record import RecordOperator
from slipway.operators.resolve import ResolveOperator
from slipway.operators.rollback import RollbackOperator
from slipway.releases.difference import difference
from slipway.releases.records import Release
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, make_life, reference

RUN = "rollback_endpoint/r"
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": NAMESPACE}}
AVAILABLE = {"state": "available", "what": "1 of 1 pods are ready"}
DOOMED = {
    "state": "doomed",
    "what": "CrashLoopBackOff",
    "doom": {"reason": "CrashLoopBackOff", "about": "Pod x", "why": "it ended", "remedy": "look"},
}


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


def roll_back(life: Life, *, to: Any = None, run: str = RUN) -> Any:
    operator = RollbackOperator(task_id="resolve", endpoint=ENDPOINT, to=to, reason="slow")
    return life.history.get(operator.execute(life.context(run))["release"])  # type: ignore[call-overload]


def test_a_rollback_is_a_new_release_of_the_old_ones_exact_bytes(life: Life) -> None:
    old = life.good("deploy_endpoint/1")
    life.good("deploy_endpoint/2", args=["--max-num-seqs=4"])

    back = roll_back(life)

    assert (back.number, back.status, back.rollback_of) == (3, "pending", 1)
    assert (back.objects, back.digest, back.label) == (old.objects, old.digest, old.label)
    assert (back.weights_source, back.weights_digest) == (old.weights_source, old.weights_digest)
    assert (back.reason, back.actor) == ("slow", "ada")
    assert back.plan["server"] == old.plan["server"]


def test_a_repeated_first_step_finds_its_release(life: Life) -> None:
    life.good("deploy_endpoint/1")
    life.good("deploy_endpoint/2", args=["--max-num-seqs=4"])

    assert roll_back(life).id == roll_back(life).id


def test_any_release_that_was_good_can_be_named(life: Life) -> None:
    for number in range(1, 4):
        life.good(f"deploy_endpoint/{number}", args=[f"--max-num-seqs={number}"])

    assert roll_back(life, to="1").rollback_of == 1
    assert roll_back(life, run="rollback_endpoint/again", to=3).rollback_of == 3


REFUSED = [
    (None, "there is no release to go back to"),
    (7, "there is no such release"),
    (2, "was never proven"),
]


@pytest.mark.parametrize(("to", "why"), REFUSED)
def test_what_was_never_proven_is_not_gone_back_to(life: Life, to: int | None, why: str) -> None:
    life.good("deploy_endpoint/1")
    failed = life.pend("deploy_endpoint/2", args=["--max-num-seqs=2"])
    life.history.mark_failed(failed.id, failure="it crashed")

    with pytest.raises(AirflowFailException, match=why):
        roll_back(life, to=to)

    assert len(life.history.list()) == 2


def test_a_label_of_digits_alone_is_no_difference(life: Life) -> None:
    release = life.good("deploy_endpoint/1")

    def labelled(characters: str) -> Release:
        label = (characters * len(release.label))[: len(release.label)]
        objects = release.objects.replace(release.label.encode(), label.encode())
        return release.model_copy(
            update={"objects": objects.replace(release.label[:8].encode(), label[:8].encode())}
        )

    assert difference(labelled("1234567890"), labelled("abcdef")) == ["no difference"]


def test_the_terminal_shows_the_difference_without_a_run(
    life: Life, capsys: pytest.CaptureFixture[str]
) -> None:
    life.good("deploy_endpoint/1")
    life.good("deploy_endpoint/2", args=["--max-num-seqs=4"])

    assert main(["rollback", ENDPOINT, "--dry-run"]) == 0

    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "qwen3-tiny: release 2 -> release 1"
    assert any(line.startswith("args: ") and "--max-num-seqs=4" in line for line in shown)
    assert any(line.startswith("-") and "--max-num-seqs=4" in line for line in shown)
    assert not any(line.startswith("image: ") for line in shown)
    assert not any("Service" in line for line in shown), "only the release's own label differs there"
    assert len(life.history.list()) == 2


class Return:
    """The last step of a failed release, followed through its deferrals."""

    def __init__(self, life: Life, run: str) -> None:
        self.life, self.run = life, run
        release = life.history.by_run(ENDPOINT, run)
        assert release is not None
        self.release = release
        self.operator = RecordOperator(task_id="record", release=reference(release))

    def start(self) -> TaskDeferred:
        with pytest.raises(TaskDeferred) as deferred:
            self.operator.execute(self.life.context(self.run))
        return deferred.value

    def go_on(self, deferred: TaskDeferred, event: dict[str, Any]) -> TaskDeferred:
        with pytest.raises(TaskDeferred) as again:
            self._call(deferred, event)
        return again.value

    def end(self, deferred: TaskDeferred, event: dict[str, Any]) -> str:
        with pytest.raises(AirflowFailException) as failed:
            self._call(deferred, event)
        return str(failed.value)

    def _call(self, deferred: TaskDeferred, event: dict[str, Any]) -> None:
        method = getattr(self.operator, deferred.method_name)
        method(self.life.context(self.run), event=event, **(deferred.kwargs or {}))

    @property
    def status(self) -> str:
        return self.life.history.get(self.release.id).status


@pytest.fixture
def failing(life: Life) -> Return:
    """A second release that was applied and then failed, under its lock."""
    life.good("deploy_endpoint/1")
    bad = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    life.lock(bad)
    life.apply(bad)
    life.history.note_failure(bad.id, "wait: it crashed")
    return Return(life, "redeploy_endpoint/2")


def test_a_return_is_waited_for_and_probed_through_both_services(life: Life, failing: Return) -> None:
    good = life.history.last_good(ENDPOINT)
    assert good is not None

    waiting = failing.start()
    assert waiting.trigger.release == good.label
    live = life.api.found("statefulsets", ENDPOINT)
    assert live and live["metadata"]["labels"]["slipway.io/release"] == good.label
    services = []
    deferred, event = waiting, dict(AVAILABLE)
    for _ in range(2):
        deferred = failing.go_on(deferred, event)
        assert isinstance(deferred.trigger, PodEndTrigger)
        event = {"name": deferred.trigger.name}
        services.append(deferred.trigger.name.rpartition("-")[2])
    line = failing.end(deferred, event)

    assert services == ["release", "published"]
    assert line.startswith("release 2 failed; release 1 serves again: wait: it crashed")
    assert failing.status == "failed"
    assert [probe.through for probe in life.history.probes(good.id)][-2:] == ["release", "published"]
    assert life.history.get(failing.release.id).returning_to == 1
    # Airflow may not have heard of it, and asks again: it is told the same.
    with pytest.raises(
        AirflowFailException, match="release 2 failed; release 1 serves again: wait: it crashed"
    ):
        failing.operator.execute(life.context(failing.run))
    assert life.holder() is None
    assert not [path for path in life.api.objects if "/pods/" in path], "the pods that asked are gone"


def test_a_return_that_does_not_come_up_is_broken_and_not_tried_again(life: Life, failing: Return) -> None:
    line = failing.end(failing.start(), dict(DOOMED))

    assert "the return failed too" in line and "CrashLoopBackOff" in line
    assert failing.status == "broken" and life.holder() is None
    before = list(life.api.writes)
    with pytest.raises(AirflowFailException, match="failed; the return failed too"):
        failing.operator.execute(life.context(failing.run))
    assert [write for write in life.api.writes[len(before) :] if "lease" not in write] == []


def test_a_return_that_answers_wrongly_is_broken(life: Life, failing: Return) -> None:
    error = {"what": "the endpoint failed at the step 'models'", "kind": "ProbeError"}
    life.api.probe_message = lambda pod: {"error": error}
    waiting = failing.start()
    for _ in range(2):
        probing = failing.go_on(waiting, dict(AVAILABLE))
        waiting = failing.go_on(probing, {"name": probing.trigger.name})
        assert failing.status == "pending", "it is asked again"
    probing = failing.go_on(waiting, dict(AVAILABLE))

    line = failing.end(probing, {"name": probing.trigger.name})

    assert "the endpoint failed at the step 'models'" in line
    assert failing.status == "broken" and life.holder() is None


def test_a_return_whose_probe_was_lost_asks_again_and_is_none_the_worse(life: Life, failing: Return) -> None:
    probing = failing.go_on(failing.start(), dict(AVAILABLE))
    life.api.objects.pop(f"/api/v1/namespaces/{NAMESPACE}/pods/{probing.trigger.name}")

    deferred = failing.go_on(probing, {"name": probing.trigger.name})
    for event in (dict(AVAILABLE), {}):
        deferred = failing.go_on(deferred, event or {"name": deferred.trigger.name})
    line = failing.end(deferred, {"name": deferred.trigger.name})

    assert "release 1 serves again" in line and failing.status == "failed"


def test_pods_of_steps_that_were_lost_go_and_what_serves_stays(life: Life, failing: Return) -> None:
    def pod(name: str, **labels: str) -> str:
        path, mine = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", {"slipway.io/endpoint": ENDPOINT}
        all_labels = {"app.kubernetes.io/managed-by": "slipway", **mine, **labels}
        metadata = {"name": name, "namespace": NAMESPACE, "uid": name, "labels": all_labels}
        live = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}
        life.api.objects[path] = live
        return path

    lost = pod("lost", **{"app.kubernetes.io/component": "probe-release"})
    kept = [pod("serving", **{"slipway.io/release": "x"}), pod("another", **{"slipway.io/endpoint": "other"})]

    deferred = failing.go_on(failing.start(), dict(AVAILABLE))
    deferred = failing.go_on(deferred, {"name": deferred.trigger.name})
    failing.end(deferred, {"name": deferred.trigger.name})

    assert lost not in life.api.objects and set(kept) <= set(life.api.objects)


def test_an_attempt_that_airflow_gave_up_leaves_the_lock_to_the_one_after_it(
    life: Life, failing: Return
) -> None:
    waiting, deferred = failing.start(), failing.start()
    assert deferred.kwargs["fencing"] == waiting.kwargs["fencing"] + 1

    line = failing.end(failing.go_on(waiting, dict(AVAILABLE)), {"name": "not there"})

    assert "lost the endpoint's lock" in line
    assert failing.status == "pending" and life.holder() == failing.run
    assert failing.go_on(deferred, dict(AVAILABLE)).method_name == "probed"


def test_what_still_lives_of_the_steps_before_writes_nothing_into_a_return(life: Life) -> None:
    life.good("deploy_endpoint/1")
    bad = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    fencing = life.lock(bad)
    place = {"namespace": NAMESPACE, "endpoint_object": ENDPOINT}
    apply = FencedCluster(life.api.cluster(), **place, holder=bad.run_id, fencing=fencing)
    apply.apply(SERVICE)
    step = Return(life, "redeploy_endpoint/2")
    found: list[str] = []

    def while_it_returns(method: str, path: str) -> None:
        """The worker of the step before wakes up once the last step has begun."""
        if "statefulsets" in path and not found:
            found.append("asked")
            with pytest.raises(LockError, match="lost the endpoint's lock"):
                apply.apply(SERVICE)
            found.append("refused")

    life.api.down = while_it_returns
    with pytest.raises(AirflowFailException, match="release 1 was not touched and serves"):
        step.operator.execute(life.context(step.run))

    assert found == ["asked", "refused"]


def test_a_cluster_that_is_away_costs_another_attempt_and_not_the_release(
    life: Life, failing: Return
) -> None:
    life.api.down = lambda method, path: 503 if method == "PATCH" else None

    with pytest.raises(AirflowException, match="tried again") as caught:
        failing.operator.execute(life.context(failing.run))

    assert not isinstance(caught.value, AirflowFailException), "Airflow would not try it again"
    assert failing.status == "pending" and life.holder() == failing.run
    life.api.down = lambda method, path: None
    assert failing.start().method_name == "restored"


def test_the_evidence_is_that_of_the_failure_and_not_of_a_later_attempt(
    life: Life, failing: Return, tmp_path: Path
) -> None:
    failing.start()
    evidence = tmp_path / "artifacts" / "evidence" / ENDPOINT / "2.json"
    before = evidence.read_bytes()
    life.api.later(60)
    failing.start()

    assert evidence.read_bytes() == before
    assert life.history.get(failing.release.id).evidence == str(evidence)


def test_a_run_that_has_lost_its_lock_changes_nothing_more(life: Life, failing: Return) -> None:
    life.api.later(3600)
    lease.acquire(
        life.api.cluster(),
        namespace=NAMESPACE,
        endpoint_object=ENDPOINT,
        holder="redeploy_endpoint/3",
        seconds=600,
    )
    before = list(life.api.writes)

    with pytest.raises(AirflowFailException, match="redeploy_endpoint/3 holds it"):
        failing.operator.execute(life.context(failing.run))

    assert life.api.writes == before
    assert failing.status == "failed" and life.holder() == "redeploy_endpoint/3"


def test_what_was_not_touched_is_left_alone(life: Life) -> None:
    life.good("deploy_endpoint/1")
    bad = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    life.lock(bad)
    step = Return(life, "redeploy_endpoint/2")

    with pytest.raises(AirflowFailException, match="release 1 was not touched and serves"):
        step.operator.execute(life.context(step.run))

    assert step.status == "failed"


def test_a_first_release_that_fails_is_scaled_to_0_and_kept(life: Life) -> None:
    first = life.pend("deploy_endpoint/1")
    life.lock(first)
    life.apply(first)
    step = Return(life, "deploy_endpoint/1")

    with pytest.raises(AirflowFailException, match="scaled to 0 and kept for a look"):
        step.operator.execute(life.context(step.run))

    live = life.api.found("statefulsets", ENDPOINT)
    assert live and live["spec"]["replicas"] == 0
    assert step.status == "failed" and life.holder() is None
    # Airflow may not have heard of it, and asks again: the run must not end green.
    with pytest.raises(AirflowFailException, match="release 1 failed; there is no good release to return to"):
        step.operator.execute(life.context(step.run))


def test_a_good_release_that_went_with_its_namespace_is_not_gone_back_to(life: Life) -> None:
    plan = make_plan(read_catalog(), ENDPOINT).model_copy(update={"namespace": "elsewhere"})
    good = life.pend("deploy_endpoint/1", plan=plan)
    life.history.record_probe(good.id, through="published", result=PROBED)
    life.history.mark_good(good.id)
    life.api.delete_namespace("elsewhere")
    failing = life.pend("deploy_endpoint/2")
    life.lock(failing)
    life.apply(failing)
    step = Return(life, "deploy_endpoint/2")

    for _ in range(2):
        with pytest.raises(AirflowFailException, match="there is no good release to return to"):
            step.operator.execute(life.context(step.run))

    assert step.status == "failed" and life.holder() is None


def resolved(life: Life, run: str, *, restart: bool = False) -> Any:
    operator = ResolveOperator(
        task_id="resolve", endpoint=ENDPOINT, overrides="{}", restart=str(restart), again=True
    )
    return life.history.get(operator.execute(life.context(run))["release"])  # type: ignore[call-overload]


def test_an_unchanged_plan_restarts_nothing_unless_it_is_asked_for(life: Life) -> None:
    first = life.good("deploy_endpoint/1")
    same = resolved(life, "redeploy_endpoint/same")
    assert same.label == first.label

    anew = resolved(life, "redeploy_endpoint/anew", restart=True)
    assert anew.label != first.label
    life.apply(anew)
    life.history.mark_failed(same.id, failure="not this one")
    life.history.mark_good(anew.id)
    assert resolved(life, "redeploy_endpoint/after").label == anew.label, "no second restart by itself"


def test_the_same_key_twice_makes_one_release(life: Life) -> None:
    life.good("deploy_endpoint/1")

    once, twice = (resolved(life, "redeploy_endpoint/ticket-4711") for _ in range(2))

    assert once.id == twice.id
    assert len(life.history.list()) == 2


def planned_by_an_older_slipway(life: Life, number: int) -> None:
    """Take fields out of a stored plan that an older version did not have, and leave one that only it had."""
    from slipway.releases.tables import ReleaseRow

    with life.history.database.writing() as session:
        row = session.get_one(ReleaseRow, number)
        gone = ("controller", "pod_security", "pods_per_replica", "labels")
        plan = {key: value for key, value in row.plan.items() if key not in gone}
        plan["server"] = {key: value for key, value in plan["server"].items() if key != "ports"}
        row.plan = {**plan, "of_old": True}


def test_a_release_that_an_older_slipway_planned_can_still_be_gone_back_to(
    life: Life, failing: Return
) -> None:
    planned_by_an_older_slipway(life, 1)

    probing = failing.go_on(failing.start(), dict(AVAILABLE))
    probing = failing.go_on(probing, {"name": probing.trigger.name})
    line = failing.end(probing, {"name": probing.trigger.name})

    assert "release 1 serves again" in line


def test_what_served_before_does_not_keep_a_proven_release_from_being_good(life: Life) -> None:
    life.good("deploy_endpoint/1")
    planned_by_an_older_slipway(life, 1)
    new = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    life.lock(new)
    life.apply(new)
    life.history.record_probe(new.id, through="published", result=PROBED)

    RecordOperator(task_id="record", release=reference(new)).execute(life.context("redeploy_endpoint/2"))

    assert life.history.last_good(ENDPOINT) == life.history.get(new.id)
    assert life.holder() is None


def test_a_good_release_that_could_not_be_kept_in_its_cluster_is_kept_by_the_next_attempt(life: Life) -> None:
    life.good("deploy_endpoint/1")
    new = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    life.lock(new)
    life.apply(new)
    life.history.record_probe(new.id, through="published", result=PROBED)
    record, context = (
        RecordOperator(task_id="record", release=reference(new)),
        life.context("redeploy_endpoint/2"),
    )
    life.api.down = lambda method, path: 503 if "configmaps" in path else None
    with pytest.raises(AirflowException, match="tried again"):
        record.execute(context)
    life.api.down = lambda method, path: None

    record.execute(context)

    assert life.api.found("configmaps", f"slipway-release-{ENDPOINT}-2")
    services = {path.rpartition("/")[2] for path in life.api.objects if "/services/" in path}
    assert services == {ENDPOINT, f"{ENDPOINT}-pods", f"{ENDPOINT}-r-{new.label[:8]}"}, (
        "the old one's is pruned"
    )
    assert life.holder() is None


def test_a_key_that_was_used_for_something_else_is_refused_with_what_is_different() -> None:
    used = {"endpoint": ENDPOINT, "overrides": {"replicas": 2}}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "x"})
        if request.method == "POST":
            return httpx.Response(409, json={"detail": "exists"})
        return httpx.Response(200, json={"state": "running", "conf": used})

    rest = AirflowRest(url="http://airflow", user="ada", password="x")
    rest.client = httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(answer))

    assert rest.trigger("redeploy_endpoint", used, run_id="ticket-4711") == "ticket-4711"
    with pytest.raises(UsageError, match=r"asked for something else.*different: overrides"):
        rest.trigger("redeploy_endpoint", {**used, "overrides": {}}, run_id="ticket-4711")
