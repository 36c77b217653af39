"""What people rely on when a real chart goes the way that HAMi goes: in, up, out, and back when it fails."""

from __future__ import annotations

import pytest

from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref
from tests.cluster.prepare_runs import Prepare


@pytest.fixture
def own(prepare: Prepare, cluster: Cluster) -> str:
    """The namespace of the release."""
    name = f"{prepare.prefix}-own"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def test_a_chart_is_installed_upgraded_and_removed(prepare: Prepare, cluster: Cluster, own: str) -> None:
    def config() -> dict[str, str] | None:
        live = cluster.get(api_version="v1", kind="ConfigMap", namespace=own, name="small")
        return live and live["data"]

    prepare.record(setup={"charts": [prepare.chart(namespace=own)]})
    (new,) = prepare.run("--plan").plan
    assert new["state"] == "missing" and new["changes"][0]["note"] == "install small 0.1.0"
    assert "+  greeting: hello" in new["changes"][0]["text"]
    assert prepare.run("--approve").status == 0 and config() == {"greeting": "hello", "note": "there"}

    prepare.record(setup={"charts": [prepare.chart(namespace=own, version="0.2.0", note="", greeting="hi")]})
    (up,) = prepare.run("--plan").plan
    assert up["state"] == "changes" and up["changes"][0]["note"] == "upgrade small 0.1.0 to small 0.2.0"
    changed = up["changes"][0]["text"].splitlines()
    assert {"-  greeting: hello", "+  greeting: hi", "-  note: there"} <= set(changed)
    assert prepare.run("--approve").status == 0 and config() == {"greeting": "hi"}
    assert prepare.run("--plan").plan[0]["state"] == "there"

    prepare.record(setup={"charts": [{**prepare.chart(namespace=own), "present": False}]})
    (out,) = prepare.run("--plan").plan
    assert "-  greeting: hi" in out["changes"][0]["text"] and "would be removed" in out["changes"][0]["note"]
    assert prepare.run("--approve").status == 0 and config() is None
    assert prepare.run("--plan").plan[0]["state"] == "there" and prepare.helm_status(own) is None


def test_an_object_of_a_chart_that_somebody_deleted_comes_back(
    prepare: Prepare, cluster: Cluster, own: str
) -> None:
    prepare.record(setup={"charts": [prepare.chart(namespace=own)]})
    assert prepare.run("--approve").status == 0
    cluster.delete(Ref(apiVersion="v1", kind="ConfigMap", namespace=own, name="small"))

    assert prepare.run("--plan").plan[0]["state"] == "changes"
    assert prepare.run("--approve").status == 0
    assert cluster.get(api_version="v1", kind="ConfigMap", namespace=own, name="small") is not None


def test_a_chart_whose_pods_do_not_start_is_taken_back_and_the_next_try_succeeds(
    prepare: Prepare, cluster: Cluster, own: str
) -> None:
    prepare.record(setup={"charts": [prepare.chart(namespace=own, ready=False, timeout_seconds=10)]})
    failed = prepare.run("--approve")
    assert (
        failed.status == 1
        and "did not become ready in time, and was taken back" in failed.failures["charts/small"]
    )
    assert cluster.get(api_version="apps/v1", kind="Deployment", namespace=own, name="small") is None

    prepare.record(setup={"charts": [prepare.chart(namespace=own)]})
    assert prepare.run("--approve").status == 0
    prepare.record(setup={"charts": [prepare.chart(namespace=own, ready=False, timeout_seconds=10)]})
    assert prepare.run("--approve").status == 1
    live = cluster.get(api_version="apps/v1", kind="Deployment", namespace=own, name="small")
    assert live and "true" in str(live["spec"]["template"]["spec"]["containers"][0]["readinessProbe"])
    prepare.record(setup={"charts": [prepare.chart(namespace=own)]})
    assert prepare.run("--plan").plan[0]["state"] == "there", "what failed was rolled back to this"


def test_a_release_that_somebody_else_is_at_is_left_alone(
    prepare: Prepare, cluster: Cluster, own: str
) -> None:
    prepare.record(setup={"charts": [prepare.chart(namespace=own)]})
    assert prepare.run("--approve").status == 0
    (secret,) = prepare.release_secrets(own)
    prepare.set_release(secret, status="pending-upgrade", ours=False)
    (step,) = prepare.run("--approve").plan

    assert step["state"] == "blocked" and "somebody else's helm is at work" in step["reason"]
    assert "helm rollback small" in step["remedy"]


def test_an_upgrade_that_was_killed_is_gone_back_from_and_made_again(
    prepare: Prepare, cluster: Cluster, own: str
) -> None:
    prepare.record(setup={"charts": [prepare.chart(namespace=own)]})
    assert prepare.run("--approve").status == 0
    prepare.record(setup={"charts": [prepare.chart(namespace=own, version="0.2.0", greeting="hi")]})
    prepare.pending_upgrade(own)
    (step,) = prepare.run("--plan").plan
    assert "a run was interrupted (pending-upgrade" in step["changes"][0]["note"]

    assert prepare.run("--approve").status == 0
    assert prepare.helm_status(own) == "deployed"
    live = cluster.get(api_version="v1", kind="ConfigMap", namespace=own, name="small")
    assert live and live["data"]["greeting"] == "hi"


WRONG = [
    ({"package": "no-such.tgz"}, "the package is not there"),
    ({"version": "9.9.9", "package": "small-0.1.0.tgz"}, "it is small 0.1.0, the record says small 9.9.9"),
    (
        {"package": None, "chart": "x/small", "repository": "http://127.0.0.1:9/charts"},
        "the chart cannot be had",
    ),
    ({"package": None, "chart": "oci://127.0.0.1:9/small"}, "the chart cannot be had"),
]


@pytest.mark.parametrize(("change", "told"), WRONG)
def test_a_chart_that_cannot_be_had_is_named(
    prepare: Prepare, own: str, change: dict[str, str], told: str
) -> None:
    prepare.record(setup={"charts": [{**prepare.chart(namespace=own), **change}]})
    seen = prepare.run("--plan")

    assert seen.status == 1 and seen.plan[0]["state"] == "blocked"
    assert told in seen.plan[0]["reason"], seen.plan[0]


def test_without_helm_only_what_needs_it_is_blocked(prepare: Prepare, own: str) -> None:
    prepare.record(setup={"charts": [prepare.chart(namespace=own)], "namespaces": [{"name": own}]})
    seen = prepare.run("--plan", environment={"SLIPWAY_HELM": "/no/such/helm"})
    states = {one["step"]: one for one in seen.plan}

    assert "helm is not installed" in states["charts/small"]["reason"]
    assert "Airflow's workers" in states["charts/small"]["remedy"]
    assert states["namespaces"]["state"] != "blocked"


def test_images_and_charts_are_listed_where_they_are_published_and_where_they_are_taken_from(
    prepare: Prepare, own: str
) -> None:
    mirror = {"docker.io/": "registry.example/mirror/docker.io/", "registry.k8s.io/": "registry.example/k8s/"}
    chart = prepare.chart(namespace=own)
    values = {"sidecar": {"enabled": True}, "hook": True}
    prepare.record(registry_rewrite=mirror, setup={"charts": [{**chart, "values": values}]})
    listed = prepare.run("--images", output="table")

    assert listed.status == 0, listed.printed
    lines = set(listed.printed.splitlines())
    assert {
        "chart small 0.1.0 -> small-0.1.0.tgz",
        "image docker.io/example/server:1 -> registry.example/mirror/docker.io/example/server:1",
        "image registry.k8s.io/sig-storage/sidecar:v1 -> registry.example/k8s/sig-storage/sidecar:v1",
        "image docker.io/example/hook:1 -> registry.example/mirror/docker.io/example/hook:1",
    } <= lines
    assert any(line.startswith("image localhost/slipway/tools:") for line in lines)
    (step,) = prepare.run("--plan").plan
    assert "registry.example/mirror/docker.io/example/server:1" in step["changes"][0]["text"]
