"""Adopting what somebody applied with kubectl: what is taken, what is refused, and who manages the fields then."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from slipway.catalog.read import read_catalog
from slipway.cluster.adopting import fixed_differences, label_workload, manifest_of
from slipway.cluster.ownership import foreign_managers, taken
from slipway.errors import ClusterError, UsageError
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render
from slipway.operators.adopt import ResolveAdoptionOperator
from slipway.operators.anew import controller_of
from slipway.operators.record import RecordOperator
from slipway.operators.resolve import ResolveOperator
from slipway.releases.adoption import Adoption, examine
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, make_life, reference

RUN = "adopt_endpoint/1"
PLACE = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{ENDPOINT}"
SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/{ENDPOINT}"


def entry(manager: str, *, operation: str = "Update", version: str = "v1", **fields: Any) -> dict[str, Any]:
    found = {"manager": manager, "operation": operation, "apiVersion": version, "fieldsV1": fields}
    return {**found, "fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z"}


def applied_by_hand(life: Life) -> None:
    """A StatefulSet and a Service as the documents' users have them."""
    labels = {"app": ENDPOINT}
    container = {"name": "vllm", "image": "vllm/vllm-openai:v0.12.0", "resources": {"requests": {"cpu": "2"}}}
    life.api.objects[PLACE] = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": ENDPOINT,
            "namespace": NAMESPACE,
            "uid": "1",
            "resourceVersion": "7",
            "generation": 3,
            "labels": labels,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "search"},
            "managedFields": [entry("kubectl-client-side-apply", version="apps/v1")],
        },
        "spec": {
            "replicas": 2,
            "serviceName": ENDPOINT,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
        "status": {"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2},
    }
    life.api.objects[SERVICE] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": ENDPOINT, "namespace": NAMESPACE, "uid": "2"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.0.0.7",
            "selector": labels,
            "ports": [{"name": "serving", "port": 8000, "targetPort": 8000}],
        },
    }


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    life = make_life(monkeypatch, tmp_path)
    monkeypatch.setattr("slipway.operators.adopt.cluster_of", lambda connection: life.api.cluster())
    applied_by_hand(life)
    return life


def look(life: Life, **options: Any) -> Adoption:
    plan = make_plan(read_catalog(), ENDPOINT)
    return examine(life.api.cluster(), plan, render(plan), **options)


def resolve(life: Life, **options: Any) -> Any:
    operator = ResolveAdoptionOperator(task_id="resolve", endpoint=ENDPOINT, **options)
    return life.history.get(operator.execute(life.context(RUN))["release"])  # type: ignore[call-overload]


def test_the_release_is_the_live_manifests_with_the_labels_of_the_house(life: Life) -> None:
    adoption = look(life)
    objects = {(one["kind"], one["metadata"]["name"]): one for one in adoption.rendered.objects()}
    label = adoption.rendered.release
    ours = {"slipway.io/endpoint": ENDPOINT, "slipway.io/release": label}

    controller = objects["StatefulSet", ENDPOINT]
    live = life.api.objects[PLACE]
    assert controller["spec"]["selector"] == live["spec"]["selector"]
    assert controller["spec"]["template"]["spec"] == live["spec"]["template"]["spec"]
    assert controller["spec"]["updateStrategy"] == {"type": "OnDelete"}, "its pods are not replaced"
    assert ours.items() <= controller["spec"]["template"]["metadata"]["labels"].items()
    assert controller["metadata"]["annotations"] == {"team": "search"}
    assert not {"uid", "resourceVersion", "managedFields"} & set(controller["metadata"])
    published = objects["Service", ENDPOINT]["spec"]
    assert published["selector"] == {"app": ENDPOINT, "slipway.io/release": label}
    assert "clusterIP" not in published
    own = objects["Service", f"{ENDPOINT}-r-{label[:8]}"]["spec"]
    assert own["selector"] == {"app": ENDPOINT, **ours} and own["ports"] == published["ports"]
    assert adoption.plan.adopted and adoption.plan.server.image == "vllm/vllm-openai:v0.12.0"


def test_what_is_adopted_already_in_part_gives_the_same_release(life: Life) -> None:
    first = look(life).rendered

    for path, wanted in ((PLACE, controller_of(first)), (SERVICE, first.stages["publication"][0])):
        live = life.api.objects[path]
        live["metadata"]["labels"] = wanted["metadata"]["labels"]
        live["spec"] |= wanted["spec"]
    life.api.objects[PLACE]["status"]["updatedReplicas"] = 0

    assert look(life).rendered.to_bytes() == first.to_bytes()


def test_the_differences_show_labels_and_no_other_change_of_the_pods(life: Life) -> None:
    shown = "".join(one.text for one in look(life).changes())

    added = [line for line in shown.splitlines() if line.startswith("+ ")]
    assert any("slipway.io/release" in line for line in added) and "managedFields" not in shown
    assert not any("image" in line or "10.0.0.7" in line for line in added)


def changed(place: str, **values: Any) -> Any:
    def change(life: Life) -> None:
        life.api.objects[place]["spec"] |= values

    return change


def without(place: str) -> Any:
    return lambda life: life.api.objects.pop(place)


def managed_by(manager: str) -> Any:
    def change(life: Life) -> None:
        life.api.objects[PLACE]["metadata"]["managedFields"] = [entry(manager, operation="Apply")]

    return change


def as_deployment(life: Life) -> None:
    live = life.api.objects.pop(PLACE)
    life.api.objects[PLACE.replace("statefulsets", "deployments")] = {**live, "kind": "Deployment"}


def second_service(kind: str) -> Any:
    def add(life: Life) -> None:
        live = deepcopy(life.api.objects[SERVICE])
        live["metadata"]["name"] = "svc-public"
        live["spec"]["type"] = kind
        life.api.objects[SERVICE.replace(ENDPOINT, "svc-public")] = live

    return add


def not_ready(life: Life) -> None:
    life.api.objects[PLACE]["status"]["readyReplicas"] = 1


REFUSED = {
    "no such workload": (without(PLACE), "nothing to adopt .* must be named as what keeps its pods"),
    "another kind": (as_deployment, "Set controller: Deployment in catalog/endpoints/qwen3-tiny.yaml"),
    "no Service": (without(SERVICE), "expose statefulset qwen3-tiny --name=qwen3-tiny --port=8000"),
    "another port": (changed(SERVICE, ports=[{"port": 9997}]), "a runtime with port: 9997"),
    "a load balancer": (changed(SERVICE, type="LoadBalancer"), "a Service of that name of type ClusterIP"),
    "other pods": (changed(SERVICE, selector={"app": "other"}), "leads to other pods"),
    "clients outside": (second_service("LoadBalancer"), r"\[\{type: LoadBalancer, name: svc-public\}\]"),
    "not ready": (not_ready, "1 of 2 pods ready"),
    "a chart's": (managed_by("helm"), "another program manages .* helm"),
}


@pytest.mark.parametrize("change, why", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_with_what_to_change(life: Life, change: Any, why: str) -> None:
    change(life)

    with pytest.raises(UsageError, match=why) as refused:
        look(life)

    assert refused.value.exit_status == 2 and "\n" not in str(refused.value)
    assert life.api.writes == []


def test_another_programs_objects_are_adopted_where_a_person_says_so(life: Life) -> None:
    managed_by("helm")(life)

    assert look(life, take_over=True).controller["metadata"]["name"] == ENDPOINT


def test_a_service_of_another_name_is_told_of(life: Life) -> None:
    second_service("ClusterIP")(life)

    [note] = look(life).notes
    assert note.startswith(f"Service {NAMESPACE}/svc-public leads to these pods too")


def test_the_run_adopts_only_what_was_seen(life: Life) -> None:
    seen = look(life).rendered.digest
    life.api.objects[PLACE]["spec"]["template"]["spec"]["containers"][0]["image"] = "vllm/vllm-openai:v0.13.0"

    with pytest.raises(AirflowFailException, match="the objects are not those that were shown"):
        resolve(life, seen=seen)

    assert life.history.list() == []
    release = resolve(life, seen=look(life).rendered.digest)
    assert (release.number, release.status, release.actor) == (1, "pending", "ada")
    assert Rendered.from_bytes(release.objects).release == release.label


def test_what_slipway_serves_is_not_adopted(life: Life) -> None:
    life.good("deploy_endpoint/1")

    with pytest.raises(AirflowFailException, match=r"release 1 of qwen3-tiny.*slipway redeploy"):
        resolve(life)


@pytest.mark.parametrize("name", ["serving", None])
def test_later_releases_call_the_port_as_the_adopted_service_does(life: Life, name: str | None) -> None:
    life.api.objects[SERVICE]["spec"]["ports"] = [{"port": 8000, **({"name": name} if name else {})}]
    releases = [resolve(life)]
    life.history.record_probe(releases[0].id, through="published", result=PROBED)
    life.history.mark_good(releases[0].id)
    for number in (2, 3):
        run = f"deploy_endpoint/{number}"
        operator = ResolveOperator(task_id="resolve", endpoint=ENDPOINT, overrides={}, strategy="recreate")
        made = life.history.get(operator.execute(life.context(run))["release"])  # type: ignore[call-overload]
        life.history.record_probe(made.id, through="published", result=PROBED)
        releases.append(life.history.mark_good(made.id))

    published = [Rendered.from_bytes(one.objects).stages["publication"][0] for one in releases]
    assert [one["metadata"]["name"] for one in published] == [ENDPOINT] * 3
    assert [one["spec"]["ports"][0].get("name") for one in published] == [name] * 3


def test_an_adoption_that_fails_stops_nothing(life: Life) -> None:
    release = resolve(life)
    life.lock(release)
    life.history.note_failure(release.id, "probe: it does not answer")

    with pytest.raises(AirflowFailException, match="what serves is left as it is: probe: it does not answer"):
        RecordOperator(task_id="record", release=reference(release)).execute(life.context(RUN))

    assert life.api.objects[PLACE]["spec"]["replicas"] == 2
    assert (life.history.get(release.id).status, life.holder()) == ("failed", None)


def test_what_kubectl_set_becomes_slipways_and_status_stays_with_its_controller() -> None:
    status = {**entry("kube-controller-manager", **{"f:status": {}}), "subresource": "status"}
    live = {
        "apiVersion": "v1",
        "metadata": {
            "managedFields": [
                entry("slipway", operation="Apply", **{"f:spec": {"f:a": {}}}),
                entry("kubectl-client-side-apply", **{"f:spec": {"f:b": {"k:{}": {".": {}}}}}),
                entry("kubectl-edit", **{"f:spec": {"f:b": {"k:{}": {"f:c": {}}}}}),
                entry("kubectl", operation="Apply", version="v0", **{"f:spec": {"f:old": {}}}),
                status,
            ]
        },
    }

    ours, other = taken(live) or []

    assert (ours["manager"], ours["operation"]) == ("slipway", "Apply")
    assert ours["fieldsV1"] == {"f:spec": {"f:a": {}, "f:b": {"k:{}": {".": {}, "f:c": {}}}}}
    assert other == status
    assert taken({**live, "metadata": {"managedFields": [ours, other]}}) is None, "twice is once"


def test_programs_that_would_set_an_object_back_are_named() -> None:
    managers = [
        "kubectl-edit",
        "helm",
        "argocd-controller",
        "slipway",
        "slipway-scale",
        "kube-controller-manager",
    ]
    live = {"metadata": {"managedFields": [entry(one) for one in managers]}}

    assert foreign_managers(live) == ["argocd-controller", "helm"]


def test_a_controller_is_made_anew_only_for_what_kubernetes_never_changes(life: Life) -> None:
    live, wanted = life.api.objects[PLACE], controller_of(render(make_plan(read_catalog(), ENDPOINT)))

    assert fixed_differences(live, wanted) == ["selector", "serviceName", "podManagementPolicy"]
    assert fixed_differences(live, manifest_of(live)) == []
    assert fixed_differences(wanted, {**wanted, "spec": {**wanted["spec"], "template": {}}}) == []


class Patched:
    """A cluster with a Deployment, its ReplicaSets and a pod, that keeps every merge patch in its order."""

    def __init__(self, *, refuses: str = "") -> None:
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.refuses = refuses

    def list(self, *, kind: str, **_: Any) -> list[dict[str, Any]]:
        if kind == "Pod":
            return [owned("Pod", "pod", by="current"), owned("Pod", "somebody-elses", by="other")]
        return [owned("ReplicaSet", name, by="web", revision=name[-1]) for name in ("old-1", "current-2")]

    def patch(self, ref: Any, changes: dict[str, Any]) -> None:
        if self.refuses == ref.kind and "paused" not in changes["spec"]:
            self.refuses = ""
            raise ClusterError("refused")
        self.patches.append((f"{ref.kind} {ref.name}", changes))


def owned(kind: str, name: str, *, by: str, revision: str = "") -> dict[str, Any]:
    annotations = {"deployment.kubernetes.io/revision": revision}
    metadata = {"name": name, "namespace": "ns", "uid": name.split("-")[0], "annotations": annotations}
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {**metadata, "ownerReferences": [{"uid": by}]},
    }


DEPLOYMENT = {
    **owned("Deployment", "web", by="nobody", revision="2"),
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}},
    },
}
LABEL = {"slipway.io/release": "abc"}
TEMPLATE = {"template": {"metadata": {"labels": LABEL}}}


def label(cluster: Patched) -> None:
    label_workload(
        cluster,  # type: ignore[arg-type]
        DEPLOYMENT,
        template=LABEL,
        own={"slipway.io/endpoint": "web"},
        say=lambda *_: None,
    )


def test_both_templates_of_a_deployment_change_while_it_is_paused() -> None:
    cluster = Patched()

    label(cluster)

    assert cluster.patches == [
        ("Deployment web", {"spec": {"paused": True}}),
        ("ReplicaSet current-2", {"spec": TEMPLATE}),
        ("Deployment web", {"spec": {**TEMPLATE, "paused": False}}),
        ("Deployment web", {"metadata": {"labels": {"slipway.io/endpoint": "web"}}}),
        ("Pod pod", {"metadata": {"labels": LABEL}}),
    ]


def test_a_refused_label_leaves_equal_templates_behind_before_anything_rolls_out() -> None:
    cluster = Patched(refuses="ReplicaSet")

    with pytest.raises(ClusterError, match="refused"):
        label(cluster)

    none = {"template": {"metadata": {"labels": {"slipway.io/release": None}}}}
    assert cluster.patches[1:] == [
        ("ReplicaSet current-2", {"spec": none}),
        ("Deployment web", {"spec": {**none, "paused": False}}),
    ]
