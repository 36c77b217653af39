"""What preparing does to a real cluster: all of it, nothing twice, on after an interruption, and no for a reason."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object, Ref
from slipway.prepare import definitions
from slipway.prepare.lock import held
from tests.cluster.prepare_runs import Prepare

NODE_LABEL = "slipway.io/test-prepared"
API = "gateway.networking.k8s.io"


def everything(run: Prepare, *, node: str) -> dict[str, Any]:
    """A set-up with every kind of step but definitions, in namespaces of the test's own."""
    own, shared = f"{run.prefix}-own", f"{run.prefix}-shared"
    return {
        "gateway": {
            "name": "gateway",
            "namespace": own,
            "gateway_class": "none",
            "listeners": [
                {"name": "http", "port": 80},
                {
                    "name": "https",
                    "port": 443,
                    "host": "a.example",
                    "certificate": "cert",
                    "certificate_namespace": shared,
                },
            ],
        },
        "setup": {
            "namespaces": [
                {"name": own, "pod_security": "baseline", "labels": {"team": "a"}},
                {"name": shared, "pod_security": "restricted"},
            ],
            "secrets": [
                {
                    "name": "keys",
                    "namespace": own,
                    "connection": "test_keys",
                    "keys": {"AWS_ACCESS_KEY_ID": "login", "AWS_SECRET_ACCESS_KEY": "password"},
                }
            ],
            "node_labels": {NODE_LABEL: "on"},
            "labelled_nodes": {"names": [node]},
            "nfs": [{"storage_class": f"{run.prefix}-nfs", "server": "nfs.example", "share": "/export"}],
            "address_pools": [{"name": run.prefix, "addresses": ["192.0.2.1-192.0.2.9"]}],
            "address_pool_namespace": own,
            "charts": [run.chart(namespace=own)],
            "routes": [
                {
                    "name": "models",
                    "namespace": own,
                    "service": "gateway",
                    "service_namespace": shared,
                    "port": 8080,
                    "allow_origin": "https://a.example",
                }
            ],
        },
    }


@pytest.fixture
def node(cluster: Cluster) -> str:
    """A node that is there."""
    return str(cluster.list(api_version="v1", kind="Node")[0]["metadata"]["name"])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is ended at the end of the test."""
    with ExitStack() as stack:
        yield stack


def versions(cluster: Cluster, run: Prepare, node: str) -> dict[str, str]:
    """The resourceVersion of all that a set-up consists of."""
    found: dict[str, str] = {}
    own = f"{run.prefix}-own"
    places: list[tuple[str, str, str | None]] = [
        ("v1", "Secret", own),
        ("v1", "ConfigMap", own),
        ("v1", "ServiceAccount", own),
        ("apps/v1", "Deployment", own),
        (f"{API}/v1", "Gateway", own),
        (f"{API}/v1", "HTTPRoute", own),
        (f"{API}/v1beta1", "ReferenceGrant", f"{run.prefix}-shared"),
        ("metallb.io/v1beta1", "IPAddressPool", own),
        ("metallb.io/v1beta1", "L2Advertisement", own),
    ]
    for api_version, kind, namespace in places:
        for one in cluster.list(api_version=api_version, kind=kind, namespace=namespace):
            # The status of a Deployment goes on to change by itself.
            version = "generation" if kind == "Deployment" else "resourceVersion"
            found[f"{kind} {one['metadata']['name']}"] = str(one["metadata"][version])
    for name in (own, f"{run.prefix}-shared"):
        live = cluster.get(api_version="v1", kind="Namespace", name=name)
        found[f"Namespace {name}"] = live["metadata"]["resourceVersion"] if live else ""
    stored = cluster.get(api_version="storage.k8s.io/v1", kind="StorageClass", name=f"{run.prefix}-nfs")
    found["StorageClass"] = stored["metadata"]["resourceVersion"] if stored else ""
    live = cluster.get(api_version="v1", kind="Node", name=node)
    found["Node label"] = live["metadata"]["labels"].get(NODE_LABEL, "") if live else ""
    return found


def test_a_cluster_that_lacks_everything_gets_it_and_a_second_time_nothing_changes(
    prepare: Prepare, cluster: Cluster, node: str
) -> None:
    prepare.record(**everything(prepare, node=node))
    seen = prepare.run("--plan")
    assert cluster.get(api_version="v1", kind="Namespace", name=f"{prepare.prefix}-own") is None
    assert {one["state"] for one in seen.plan} == {"missing", "changes"}
    assert "hush" not in seen.printed

    first = prepare.run("--approve")
    assert (first.status, first.failures) == (0, {}), first.printed
    before = versions(cluster, prepare, node)
    again = prepare.run("--approve")

    assert {one["state"] for one in again.plan} == {"there"}
    assert versions(cluster, prepare, node) == before and before["Node label"] == "on"
    assert "hush" not in first.printed + again.printed
    route = cluster.get(
        api_version=f"{API}/v1", kind="HTTPRoute", namespace=f"{prepare.prefix}-own", name="models"
    )
    assert route is not None and "Access-Control-Allow-Origin" in str(route["spec"])
    gateway = cluster.get(
        api_version=f"{API}/v1", kind="Gateway", namespace=f"{prepare.prefix}-own", name="gateway"
    )
    assert gateway is not None
    assert [one["protocol"] for one in gateway["spec"]["listeners"]] == ["HTTP", "HTTPS"]
    history = prepare.history()
    assert [one.status for one in history] == ["done"], "a run that had nothing to do is no preparation"
    assert "hush" not in history[0].model_dump_json()


def test_what_is_there_already_and_right_is_left_and_what_differs_is_shown_and_mended(
    prepare: Prepare, cluster: Cluster
) -> None:
    name = f"{prepare.prefix}-own"
    prepare.record(setup={"namespaces": [{"name": name, "pod_security": "baseline"}]})
    assert prepare.run("--approve").status == 0
    prepare.record(setup={"namespaces": [{"name": name, "pod_security": "privileged"}]})
    seen = prepare.run("--plan")

    assert "-    pod-security.kubernetes.io/enforce: baseline" in seen.plan[0]["changes"][0]["text"]
    assert seen.plan[0]["state"] == "changes"
    assert prepare.run("--approve").status == 0
    live = cluster.get(api_version="v1", kind="Namespace", name=name)
    assert live and live["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_a_preparation_that_is_killed_in_the_middle_goes_on_the_next_time(
    prepare: Prepare, cluster: Cluster, node: str
) -> None:
    wanted = everything(prepare, node=node)
    own = f"{prepare.prefix}-own"
    slow = prepare.chart(namespace=own, ready=False, timeout_seconds=300)
    prepare.record(**{**wanted, "setup": {**wanted["setup"], "charts": [slow]}})
    with prepare.started("--approve") as process:
        wait_for(lambda: prepare.helm_status(own) == "pending-install")
        wait_for(lambda: cluster.get(api_version="apps/v1", kind="Deployment", namespace=own, name="small"))
        os.killpg(process.pid, signal.SIGKILL)
    assert prepare.helm_status(own) == "pending-install", (
        "helm itself was killed before it could take anything back"
    )

    prepare.record(**wanted)
    seen = prepare.run("--plan")
    states = {one["step"]: one["state"] for one in seen.plan}
    assert states["namespaces"] == states["secrets"] == "there" and states["gateway"] == "missing"
    (change,) = next(one for one in seen.plan if one["step"] == "charts/small")["changes"]
    assert "a run was interrupted (pending-install" in change["note"]

    done = prepare.run("--approve")

    assert (done.status, done.failures) == (0, {}), done.printed
    assert prepare.helm_status(own) == "deployed"
    assert {one["state"] for one in prepare.run("--plan").plan} == {"there"}


def test_two_preparations_of_a_cluster_do_not_work_at_once(
    prepare: Prepare, cluster: Cluster, stack: ExitStack
) -> None:
    prepare.record(setup={"namespaces": [{"name": f"{prepare.prefix}-own"}]})
    place = {"api_version": "v1", "kind": "Namespace", "name": f"{prepare.prefix}-own"}
    with held(cluster, holder="another run", patience=5, say=lambda line: None):
        process = stack.enter_context(prepare.started("--approve"))
        line = process.stderr.readline() if process.stderr else ""
        assert "waiting for another run, which prepares this cluster" in line
        assert cluster.get(**place) is None
    assert process.wait(timeout=60) == 0
    assert cluster.get(**place) is not None


# -- why not


def test_without_the_rights_the_rule_is_printed_and_with_it_the_step_can_be_made(
    prepare: Prepare, cluster: Cluster
) -> None:
    name = f"{prepare.prefix}-own"
    prepare.record(setup={"namespaces": [{"name": name, "pod_security": "baseline"}]})
    user, kubeconfig = prepare.somebody()
    refused = prepare.run("--approve", kubeconfig=kubeconfig)
    (step,) = refused.plan

    assert refused.status == 1 and step["state"] == "blocked"
    assert f'User "{user}" cannot' in step["reason"] and f"bind it to {user}" in step["remedy"]
    for _ in range(3):
        rule = yaml.safe_load(step["remedy"].partition("\n")[2])
        rule["metadata"]["name"] += f"-{prepare.prefix}"
        prepare.give(rule, user=user)
        (step,) = prepare.run("--plan", kubeconfig=kubeconfig).plan
        if step["state"] != "blocked":
            break
    assert step["state"] == "missing", step


def test_definitions_that_another_manager_holds_are_named_and_taken_over_only_when_asked(
    prepare: Prepare, cluster: Cluster
) -> None:
    name = f"{prepare.prefix}s.{API}".replace("-", "")
    prepare.bundle(definition(name, version="v1.2.1", said="ours"))
    prepare.record(setup={"gateway_api": {"version": "1.2.1", "file": "bundle.tgz"}})
    cluster.apply(definition(name, version="v1.2.0", said="theirs"), manager="kubectl-client-side-apply")
    try:
        seen = prepare.run("--approve")
        assert seen.status == 1 and seen.plan[0]["state"] == "blocked"
        assert "held by" in seen.plan[0]["reason"] and "kubectl-client-side-apply" in seen.plan[0]["reason"]
        assert "--take-over --steps gateway-api" in seen.plan[0]["remedy"]
        taken = prepare.run("--approve", "--take-over", "--steps", "gateway-api")
        assert taken.status == 0, taken.printed

        newer = definition(name, version="v1.3.0", said="newer")
        cluster.apply(newer, manager="kubectl-client-side-apply", force=True)
        kept = prepare.run("--approve", "--take-over")
        assert kept.status == 0 and kept.plan[0]["state"] == "there"
        assert "newer than v1.2.1" in kept.plan[0]["reason"]
        live = cluster.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", name=name)
        assert live and live["metadata"]["annotations"][definitions.VERSION_ANNOTATION] == "v1.3.0"
    finally:
        cluster.delete(Ref(apiVersion="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", name=name))


def test_new_definitions_come_from_a_package_and_are_served_before_the_step_is_done(
    prepare: Prepare, cluster: Cluster
) -> None:
    name = f"{prepare.prefix}s.{API}".replace("-", "")
    kind = f"T{prepare.prefix.replace('-', '')}"
    prepare.bundle(definition(name, version="v1.2.1", said="x"))
    prepare.record(setup={"gateway_api": {"version": "1.2.1", "file": "bundle.tgz"}})
    try:
        assert prepare.run("--approve").status == 0
        assert cluster.list(api_version=f"{API}/v1", kind=kind, namespace="default") == []
        assert prepare.run("--plan").plan[0]["state"] == "there"
    finally:
        cluster.delete(Ref(apiVersion="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", name=name))


def test_the_gateway_api_as_it_is_published_is_what_the_sandbox_has(prepare: Prepare) -> None:
    prepare.gateway_api()
    prepare.record(setup={"gateway_api": {"version": "1.2.1", "file": "gateway-api"}})
    (step,) = prepare.run("--plan").plan

    assert step["state"] == "there", step["changes"]


def test_rights_as_the_sandbox_gives_them_are_there_and_another_users_are_not_taken_for_them(
    prepare: Prepare,
) -> None:
    prepare.record(setup={"rights": {"name": "slipway"}})
    (step,) = prepare.run("--plan").plan
    assert step["state"] == "there", step
    prepare.record(setup={"rights": {"kind": "ServiceAccount", "name": "airflow", "namespace": "default"}})
    (step,) = prepare.run("--plan").plan

    assert step["state"] == "blocked" and 'subjects is held by "slipway-sandbox"' in step["reason"]


def test_a_secret_whose_connection_is_not_there_names_it(prepare: Prepare, node: str) -> None:
    wanted = everything(prepare, node=node)
    wanted["setup"]["secrets"][0]["connection"] = "no_such"
    prepare.record(setup={key: wanted["setup"][key] for key in ("namespaces", "secrets")})
    seen = prepare.run("--plan")
    states = {one["step"]: one for one in seen.plan}

    assert seen.status == 1 and states["namespaces"]["state"] == "missing"
    assert states["secrets"]["reason"] == "no such connection (no_such)"
    assert "AIRFLOW_CONN_NO_SUCH" in states["secrets"]["remedy"]


def test_a_node_that_is_not_there_is_not_made_up(prepare: Prepare, cluster: Cluster) -> None:
    prepare.record(setup={"node_labels": {NODE_LABEL: "on"}, "labelled_nodes": {"names": ["no-such-node"]}})
    seen = prepare.run("--approve")

    assert seen.status == 1 and "there is no such node (no-such-node)" in seen.plan[0]["reason"]
    assert cluster.get(api_version="v1", kind="Node", name="no-such-node") is None


def definition(name: str, *, version: str, said: str) -> Object:
    """A definition of the Gateway API's group that nobody else has."""
    plural = name.partition(".")[0]
    kind = f"T{plural[:-1]}"
    annotations = {
        definitions.VERSION_ANNOTATION: version,
        definitions.CHANNEL_ANNOTATION: "standard",
        "api-approved.kubernetes.io": "unapproved, a test's own",
    }
    schema = {"type": "object", "description": said, "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "group": API,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": plural[:-1]},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }


def wait_for(what: Callable[[], Any], *, seconds: float = 90) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + seconds
    while not _answered(what):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.2)


def _answered(what: Callable[[], Any]) -> Any:
    try:
        return what()
    except ApiError:
        return None
