"""What somebody changed since a release is found by who holds each field, and told once, with its name and time."""

from __future__ import annotations

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slipway.cluster.drift import drifts_of
from slipway.cluster.faults import ApiError
from slipway.cluster.listed import ListedCluster
from slipway.releases.lines import line_of, line_of_difference
from slipway.releases.store import History
from tests.unit.life_api import ENDPOINT, NAMESPACE, Life, make_life
from tests.unit.test_reconcile import probe, receiver, tell_through  # noqa: F401

Objects = dict[str, Any]
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "s", "namespace": "n", "labels": {"a": "1"}},
    "spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
}
SERVICE_OURS = {
    "f:metadata": {"f:labels": {"f:a": {}}},
    "f:spec": {
        "f:selector": {},
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:targetPort": {}}
        },
    },
}
CONTAINER = {
    "name": "server",
    "image": "r/vllm:1",
    "args": ["--a"],
    "env": [{"name": "A", "value": "1"}],
    "resources": {"limits": {"memory": "1Gi"}},
}
WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "w", "namespace": "n"},
    "spec": {"replicas": 1, "template": {"spec": {"containers": [CONTAINER]}}},
}
CONTAINERS_OURS = {
    ".": {},
    "f:name": {},
    "f:image": {},
    "f:args": {},
    "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
    "f:resources": {"f:limits": {"f:memory": {}}},
}
WORKLOAD_OURS = {
    "f:spec": {
        "f:replicas": {},
        "f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': CONTAINERS_OURS}}},
    }
}
AT = "2026-11-21T12:00:00Z"
CONTAINER_PATH = "spec.template.spec.containers[name=server]"


def entry(manager: str, tree: Objects, *, operation: str = "Update", **more: str) -> Objects:
    return {"manager": manager, "operation": operation, "time": AT, "fieldsV1": tree, **more}


def applied(wanted: Objects, ours: Objects) -> Objects:
    """An object as the server has it after an apply: with defaults, and managers."""
    live: Objects = copy.deepcopy(wanted)
    for port in live["spec"].get("ports", []):
        port["protocol"] = "TCP"
    live["spec"]["defaulted"] = "by the server"
    live["metadata"]["managedFields"] = [
        entry("slipway", copy.deepcopy(ours), operation="Apply"),
        entry("kube-controller-manager", {"f:status": {}}, subresource="status"),
    ]
    return live


def service() -> Objects:
    return applied(SERVICE, SERVICE_OURS)


def workload() -> Objects:
    return applied(WORKLOAD, WORKLOAD_OURS)


def container(live: Objects) -> Objects:
    found: Objects = live["spec"]["template"]["spec"]["containers"][0]
    return found


def of_container(tree: Objects) -> Objects:
    return {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': tree}}}},
    }


def takes(live: Objects, manager: str, tree: Objects, *, from_ours: tuple[str, ...]) -> None:
    """What the server notes when somebody writes a field: it is his, and no longer ours."""
    fields = live["metadata"]["managedFields"]
    node = fields[0]["fieldsV1"]
    for step in from_ours[:-1]:
        node = node[step]
    del node[from_ours[-1]]
    fields.append(entry(manager, tree))


SERVER = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"server"}')


def edits_the_image(live: Objects) -> None:
    container(live)["image"] = "r/vllm:2"
    takes(live, "kubectl-set", of_container({"f:image": {}}), from_ours=(*SERVER, "f:image"))


def edits_a_value(live: Objects) -> None:
    container(live)["env"][0]["value"] = "sk-something-secret"
    env = {"f:env": {'k:{"name":"A"}': {"f:value": {}}}}
    takes(live, "kubectl-edit", of_container(env), from_ours=(*SERVER, "f:env", 'k:{"name":"A"}', "f:value"))


def edits_the_arguments(live: Objects) -> None:
    container(live)["args"] = ["--a", "--b"]
    takes(live, "kubectl-edit", of_container({"f:args": {}}), from_ours=(*SERVER, "f:args"))


def takes_a_limit_out(live: Objects) -> None:
    del container(live)["resources"]["limits"]["memory"]
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][
        'k:{"name":"server"}'
    ]["f:resources"]


def adds_a_container(live: Objects) -> None:
    live["spec"]["template"]["spec"]["containers"].append({"name": "extra", "image": "i"})
    added = {'k:{"name":"extra"}': {".": {}, "f:name": {}, "f:image": {}}}
    tree = {"f:spec": {"f:template": {"f:spec": {"f:containers": added}}}}
    live["metadata"]["managedFields"].append(entry("kubectl-patch", tree))


def restarts_it(live: Objects) -> None:
    key = "kubectl.kubernetes.io/restartedAt"
    live["spec"]["template"]["metadata"] = {"annotations": {key: AT}}
    tree = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {f"f:{key}": {}}}}}}
    live["metadata"]["managedFields"].append(entry("kubectl-rollout", tree))


CHANGES = [
    (
        edits_the_image,
        f"StatefulSet n/w: {CONTAINER_PATH}.image was r/vllm:1, is r/vllm:2, changed by kubectl-set at {AT}",
    ),
    (
        edits_a_value,
        f"StatefulSet n/w: {CONTAINER_PATH}.env[name=A].value was [redacted], is [redacted], "
        f"changed by kubectl-edit at {AT}",
    ),
    (
        edits_the_arguments,
        f'StatefulSet n/w: {CONTAINER_PATH}.args was ["--a"], is ["--a", "--b"], changed by kubectl-edit at {AT}',
    ),
    (takes_a_limit_out, f"StatefulSet n/w: {CONTAINER_PATH}.resources.limits.memory was 1Gi, removed"),
    (
        adds_a_container,
        "StatefulSet n/w: spec.template.spec.containers[name=extra] "
        f'is {{"image": "i", "name": "extra"}}, added by kubectl-patch at {AT}',
    ),
    (
        restarts_it,
        f'StatefulSet n/w: spec.template.metadata is {{"annotations": {{"kubectl.kubernetes.io/restartedAt": "{AT}"}}}}'
        f", added by kubectl-rollout at {AT}",
    ),
]


@pytest.mark.parametrize(("change", "line"), CHANGES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_change_is_named_by_field_and_manager(change: Any, line: str) -> None:
    live = workload()
    change(live)

    [found] = drifts_of(WORKLOAD, live)

    assert line_of_difference(vars(found)) == line


def scaled_by_somebody(live: Objects) -> None:
    live["spec"]["replicas"] = 5
    takes(live, "kubectl-edit", {"f:spec": {"f:replicas": {}}}, from_ours=("f:spec", "f:replicas"))


def written_in_another_form(live: Objects) -> None:
    container(live)["resources"]["limits"]["memory"] = "1024Mi"


def changed_by_a_webhook_as_it_was_applied(live: Objects) -> None:
    container(live)["image"] = "mirror/vllm:1"


def taken_over_with_the_same_value(live: Objects) -> None:
    takes(live, "kubectl", of_container({"f:image": {}}), from_ours=(*SERVER, "f:image"))


def given_something_by_a_controller(live: Objects) -> None:
    live["spec"]["volumeName"] = "pv-1"
    live["metadata"]["managedFields"].append(
        entry("kube-controller-manager", {"f:spec": {"f:volumeName": {}}})
    )


def labelled_by_somebody(live: Objects) -> None:
    live["metadata"]["labels"] = {"team": "b"}
    live["metadata"]["managedFields"].append(
        entry("kubectl-label", {"f:metadata": {"f:labels": {"f:team": {}}}})
    )


@pytest.mark.parametrize(
    "change",
    [
        scaled_by_somebody,
        written_in_another_form,
        changed_by_a_webhook_as_it_was_applied,
        taken_over_with_the_same_value,
        given_something_by_a_controller,
        labelled_by_somebody,
        lambda live: None,
    ],
)
def test_what_is_nobodys_change_of_the_release_is_no_drift(change: Any) -> None:
    live = workload()
    change(live)

    assert drifts_of(WORKLOAD, live) == []


def test_an_object_that_is_gone_or_going_is_named() -> None:
    assert line_of_difference(vars(drifts_of(SERVICE, None)[0])) == "Service n/s is gone: somebody deleted it"
    ending = service()
    ending["metadata"]["deletionTimestamp"] = AT
    assert line_of_difference(vars(drifts_of(SERVICE, ending)[0])) == f"Service n/s is being deleted at {AT}"


def test_a_whole_selector_is_one_field_and_a_port_is_found_by_its_keys() -> None:
    live = service()
    assert drifts_of(SERVICE, live) == []
    live["spec"]["selector"] = {"app": "y"}
    takes(live, "kubectl-edit", {"f:spec": {"f:selector": {}}}, from_ours=("f:spec", "f:selector"))
    live["spec"]["ports"][0]["targetPort"] = 9
    ours = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"]
    del ours['k:{"port":80,"protocol":"TCP"}']["f:targetPort"]

    selector, port = drifts_of(SERVICE, live)

    assert (selector.field, selector.was, selector.now) == ("spec.selector", '{"app": "x"}', '{"app": "y"}')
    assert (port.field, port.was, port.now) == ("spec.ports[port=80].targetPort", "http", "9")


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


def delete_service(life: Life) -> Objects:
    return life.api.objects.pop(f"/api/v1/namespaces/{NAMESPACE}/services/{ENDPOINT}")


def test_what_somebody_deleted_is_told_once_and_that_it_is_back(
    life: Life,
    receiver: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tell_through(monkeypatch, conn_type="http", host="127.0.0.1", port=receiver.port)
    life.good("deploy_endpoint/1")
    probe(life)
    assert (receiver.told, life.history.drifts(ENDPOINT)) == ([], []), (
        "nothing is written of what is as it was"
    )

    service = delete_service(life)
    probe(life)
    probe(life)
    life.api.objects[f"/api/v1/namespaces/{NAMESPACE}/services/{ENDPOINT}"] = service
    probe(life)
    probe(life)

    texts = [body["text"] for _, body, _ in receiver.told]
    where = f"{ENDPOINT} in sandbox (release 1)"
    gone = f"Service {NAMESPACE}/{ENDPOINT} is gone: somebody deleted it"
    assert texts[0] == f"{where} is not as it was released: {gone}"
    assert texts[1].startswith(f"{where} is as it was released again since") and len(texts) == 2
    assert [len(one.differences) for one in life.history.drifts(ENDPOINT)] == [0, 1]


def test_what_a_run_is_changing_is_not_compared(life: Life) -> None:
    life.good("deploy_endpoint/1")
    delete_service(life)
    release = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    life.lock(release)

    probe(life)

    assert life.history.drifts(ENDPOINT) == []


def test_another_difference_is_news_and_another_time_is_not(life: Life) -> None:
    first = {"object": "Service n/s", "field": "spec.x", "what": "changed", "was": "1", "now": "2"}
    first |= {"manager": "kubectl-edit", "at": AT}
    place: Any = {"cluster": "sandbox", "release_number": 1}

    def seen(*differences: dict[str, str]) -> tuple[bool, int]:
        drift = life.history.record_drift(ENDPOINT, **place, differences=differences)
        assert drift
        life.history.note_drift_told(drift.id)
        return not drift.alerted, len(life.history.drifts(ENDPOINT))

    assert seen(first) == (True, 1)
    assert seen({**first, "at": "later"}) == (False, 1)
    assert seen({**first, "now": "3"}) == (True, 2)
    assert seen() == (True, 3)
    assert life.history.drifted() == {}


def test_old_drifts_are_forgotten(life: Life) -> None:
    place: Any = {"cluster": "sandbox", "release_number": 1, "differences": [{"object": "x"}]}
    drift = life.history.record_drift(ENDPOINT, **place)
    assert drift
    life.history.forget_old_drifts(now=drift.seen + timedelta(days=399))
    assert life.history.drifts(ENDPOINT)
    life.history.forget_old_drifts(now=drift.seen + timedelta(days=401))
    assert life.history.drifts(ENDPOINT) == []


def test_many_endpoints_are_read_from_few_lists(life: Life) -> None:
    life.good("deploy_endpoint/1")
    asked: list[str] = []

    def note(method: str, path: str) -> None:
        asked.append(path)

    life.api.down = note
    listed = ListedCluster(life.api.cluster())
    for name in ("one", "two", ENDPOINT):
        listed.list(
            api_version="apps/v1",
            kind="StatefulSet",
            namespace=NAMESPACE,
            labels={"slipway.io/endpoint": name},
        )
        found = listed.get(api_version="apps/v1", kind="StatefulSet", namespace=NAMESPACE, name=ENDPOINT)

    assert found and len(asked) == 1


def test_a_server_that_is_away_is_waited_for_once_and_not_for_each_endpoint(life: Life) -> None:
    life.good("deploy_endpoint/1")
    asked: list[str] = []

    def away(method: str, path: str) -> int:
        asked.append(path)
        return 503

    life.api.down = away
    listed = ListedCluster(life.api.cluster())
    for name in ("one", "two", ENDPOINT):
        with pytest.raises(ApiError):
            listed.get(api_version="v1", kind="Service", namespace=NAMESPACE, name=name)
        with pytest.raises(ApiError):
            listed.get(api_version="apps/v1", kind="StatefulSet", namespace=NAMESPACE, name=name)

    assert len(asked) == 1


def test_a_line_about_several_says_how_many(life: Life) -> None:
    one = {
        "object": "Service n/s",
        "field": "",
        "what": "deleted",
        "was": "",
        "now": "",
        "manager": "",
        "at": "",
    }
    place: Any = {"cluster": "c", "release_number": 2}
    drift = History.open().record_drift(
        "e", **place, differences=[one, one | {"object": "PodDisruptionBudget n/s"}]
    )
    assert drift and line_of(drift).endswith("Service n/s is gone: somebody deleted it (and 1 more)")
