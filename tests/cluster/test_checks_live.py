"""The checks against a real cluster, with Slipway's own rights and without one of them."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.catalog.read import include_directory, read_catalog
from slipway.catalog.records import Accelerator
from slipway.catalog.records import Cluster as ClusterRecord
from slipway.checks.findings import Finding, blocking, table
from slipway.checks.plan import site_of
from slipway.checks.registry import CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site, Subject
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref, ref_of


def subject(namespace: str, image: str, **more: Any) -> Subject:
    return Subject.model_validate(
        {
            "namespace": namespace,
            "storage": {"claim": "weights", "storage_class": "local-path", "size": "1Gi"},
            "images": (image,),
            "requests": {"cpu": "10m", "memory": "32Mi"},
            **more,
        }
    )


def by_check(found: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.severity for finding in found if finding.severity != "info"}


def test_a_healthy_cluster_with_exactly_slipways_rights(
    slipway: Cluster, administrator: Cluster, restricted_namespace: str, image: str
) -> None:
    administrator.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "api-key", "namespace": restricted_namespace},
            "stringData": {"key": "hunter2"},
        }
    )
    wanted = subject(restricted_namespace, image, secrets=[{"name": "api-key", "keys": ["key"]}])
    found = run_checks(slipway, wanted)
    print(table(found))
    # Nothing was sized here, and no older release serves.
    quiet = ("sizing", "surge", "gateways", "apis")
    looked_at = [check.id for check in CHECKS if "endpoint" in check.asked and check.id not in quiet]
    assert by_check(found) == dict.fromkeys(looked_at, "ok"), table(found)
    assert "Pod Security level restricted" in table(found)


def test_each_missing_right_is_named_and_the_remedy_mends_it(
    as_slipway: Callable[..., Cluster], administrator: Cluster, namespace: str, image: str
) -> None:
    user = f"{namespace}-user"
    limited = as_slipway(namespace, user=user, without="leases")
    [found] = blocking(run_checks(limited, subject(namespace, image)))
    assert found.check == "permissions"
    assert "leases.coordination.k8s.io" in found.reason
    for document in yaml.safe_load_all(found.remedy.partition("\n")[2]):
        administrator.apply(document)
    assert blocking(run_checks(limited, subject(namespace, image))) == []


def test_faults_are_found_side_by_side(as_slipway: Callable[..., Cluster], namespace: str) -> None:
    wanted = subject(
        namespace,
        "localhost/slipway/nothing:here",
        storage={"claim": "weights", "storage_class": "no-such-class", "size": "1Gi"},
        requests={"nvidia.com/gpu": "1"},
        secrets=[{"name": "nowhere", "keys": ["key"]}],
    )
    found = run_checks(as_slipway(namespace, may_see=("nowhere",)), wanted)
    assert {finding.check for finding in blocking(found)} == {"storage", "images", "capacity", "secrets"}
    told = table(found)
    assert "no such storage class; there are: " in told
    assert "nvidia.com/gpu not offered" in told
    assert f"kubectl -n {namespace} create secret generic nowhere --from-literal=key=…" in told


def test_a_namespace_that_is_not_there(slipway: Cluster, namespace: str, image: str) -> None:
    missing = f"{namespace}-nowhere"
    found = {one.check: one for one in blocking(run_checks(slipway, subject(missing, image)))}
    assert found["namespace"].remedy == f"kubectl create namespace {missing}"
    assert set(found) == {"namespace", "permissions"}, "nobody has rights there yet"


# -- a whole cluster -----------------------------------------------------------------------------------------


def whole(endpoint: Subject, **more: Any) -> Site:
    record = {
        "name": "here",
        "connection": "here",
        "registry": "localhost/slipway",
        "storage": {"storage_class": "local-path", "access_mode": "ReadWriteOnce"},
        "accelerators": {"cpu": {}},
    }
    cpu = Accelerator.model_validate({"name": "cpu", "kind": "cpu", "offered_by": "kubernetes"})
    return Site(
        record=ClusterRecord.model_validate({**record, **more}), devices=(cpu,), endpoints=(endpoint,)
    )


@pytest.fixture
def looking(as_slipway: Callable[..., Cluster], namespace: str) -> Cluster:
    """Slipway itself, with the rights for checks of a whole cluster too."""
    return as_slipway(namespace, infrastructure=True)


def test_a_healthy_cluster_has_no_blocking_finding(looking: Cluster, namespace: str, image: str) -> None:
    found = run_checks(looking, whole(subject(namespace, image, endpoint="one")))
    assert blocking(found) == [], table(found)
    looked_at = {one.check for one in found if one.severity == "ok"}
    assert looked_at >= {
        "api",
        "certificate",
        "clock",
        "skew",
        "permissions",
        "quotas",
        "machines",
        "namespace",
    }


def test_the_catalogs_own_cluster_is_described_and_checked(as_user: Callable[[str], Cluster]) -> None:
    include = include_directory()
    found = run_checks(as_user("slipway"), site_of(read_catalog(include), "sandbox", include=include))
    cluster_wide = [one for one in blocking(found) if one.check not in ("secrets", "storage")]
    assert cluster_wide == [], table(found)
    assert any(one.check == "plans" and one.severity == "ok" for one in found), table(found)


def test_what_slipways_own_rights_do_not_show_is_not_checked_until_they_are_given(
    as_slipway: Callable[..., Cluster],
    namespace: str,
    image: str,
    bound: Callable[..., None],
) -> None:
    user = f"{namespace}-user"
    limited = as_slipway(namespace, user=user)
    gateway = {"name": "none", "namespace": namespace, "gateway_class": "none"}
    pool = {"address_pools": [{"name": "none", "addresses": ["192.0.2.1-192.0.2.2"]}]}
    site = whole(subject(namespace, image, endpoint="one"), gateway=gateway, setup=pool)
    before = run_checks(limited, site)
    refused = {one.check for one in before if "kind: ClusterRole" in one.remedy}
    assert refused >= {"webhooks", "gateway-api", "gateways", "balancers", "quotas"}, table(before)
    assert {one.severity for one in before if "kind: ClusterRole" in one.remedy} == {"not checked"}
    for one in before:
        if "kind: ClusterRole" in one.remedy:
            bound(next(yaml.safe_load_all(one.remedy.partition("\n")[2])), user=user)
    after = run_checks(limited, site)
    assert not [one for one in after if "kind: ClusterRole" in one.remedy], table(after)
    assert {one.check for one in blocking(after)} == {"gateways", "balancers"}, table(after)


@pytest.fixture
def bound(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Apply a ClusterRole and give it to a user, both under a name of their own; taken back at the end."""
    given: list[Ref] = []

    def bind(role: Object, *, user: str) -> None:
        name = f"{role['metadata']['name']}-{user}"
        group = "rbac.authorization.k8s.io"
        role["metadata"]["name"] = name
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }
        for obj in (role, binding):
            cluster.apply(obj)
            given.append(ref_of(obj))

    yield bind
    for ref in given:
        cluster.delete(ref)


# No controller of the Gateway API acts here, so what one would report is written into the real objects' status.
GATEWAY = "gateway.networking.k8s.io/v1"
NOW = "2026-01-01T00:00:00Z"


def conditions(**states: str) -> list[dict[str, Any]]:
    fixed = {"reason": "Test", "message": "so it is", "lastTransitionTime": NOW, "observedGeneration": 1}
    return [{"type": kind, "status": status, **fixed} for kind, status in states.items()]


@pytest.fixture
def gateway(cluster: Cluster, namespace: str) -> Iterator[Callable[..., Site]]:
    """A Gateway with a route, of a class of its own, and how its controller would see them."""
    name = namespace  # the class belongs to the whole cluster
    refs = [Ref(apiVersion=GATEWAY, kind="GatewayClass", name=name)]
    refs += [
        Ref(apiVersion=GATEWAY, kind=kind, namespace=namespace, name="g") for kind in ("Gateway", "HTTPRoute")
    ]
    specs: list[dict[str, Any]] = [
        {"controllerName": "example.com/test"},
        {"gatewayClassName": name, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        {
            "parentRefs": [{"name": "g", "namespace": namespace, "sectionName": "http"}],
            "rules": [{"backendRefs": [{"name": "served", "port": 80}]}],
        },
    ]
    for ref, spec in zip(refs, specs, strict=True):
        place = {"namespace": ref.namespace} if ref.namespace else {}
        metadata = {"name": ref.name, **place}
        cluster.create({"apiVersion": GATEWAY, "kind": ref.kind, "metadata": metadata, "spec": spec})
    service = {"name": "served", "namespace": namespace}
    cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": {"ports": [{"port": 80}]}}
    )
    route = {
        "namespace": namespace,
        "name": "g",
        "gateway_namespace": namespace,
        "gateway": "g",
        "section": "http",
    }

    def seen(
        *, accepted: str = "True", programmed: str = "True", address: bool = True, routed: str = "True"
    ) -> Site:
        cluster.patch(
            refs[0], {"status": {"conditions": conditions(Accepted=accepted)}}, subresource="status"
        )
        listener = {"name": "http", "attachedRoutes": 1, "supportedKinds": []}
        status = {
            "conditions": conditions(Accepted="True", Programmed=programmed),
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}] if address else [],
            "listeners": [{**listener, "conditions": conditions(Programmed="True")}],
        }
        cluster.patch(refs[1], {"status": status}, subresource="status")
        parent = {"parentRef": {"name": "g", "namespace": namespace}, "controllerName": "example.com/test"}
        parents = [{**parent, "conditions": conditions(Accepted=routed, ResolvedRefs="True")}]
        cluster.patch(refs[2], {"status": {"parents": parents}}, subresource="status")
        need = {**route, "backends": [(namespace, "served", 80)]}
        return Site.model_validate({"endpoints": [{"namespace": namespace, "routes": [need]}]})

    yield seen
    for ref in refs:
        cluster.delete(ref)


SEEN: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "all is well": ({}, set()),
    "class not accepted": ({"accepted": "False"}, {("gateways", "not accepted: so it is")}),
    "not programmed": ({"programmed": "False"}, {("gateways", "not programmed: so it is")}),
    "no address": ({"address": False}, {("gateways", "it is programmed, but has no address")}),
    "route refused": ({"routed": "False"}, {("routes", "Accepted is False: so it is")}),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_a_gateways_controller_reports_is_judged(
    case: str, gateway: Callable[..., Site], looking: Cluster
) -> None:
    reported, wanted = SEEN[case]
    site = gateway(**reported)
    chosen = [one for one in CHECKS if one.id in ("gateway-api", "gateways", "routes")]
    found = run_checks(looking, site, checks=chosen)
    assert {(one.check, one.reason) for one in blocking(found)} == wanted, table(found)
    assert any(one.check == "gateway-api" and "all five definitions" in one.reason for one in found)
    # The Service that the route leads to has no pods.
    assert (
        any(one.check == "routes" and "leads to no ready pod" in one.reason for one in found)
        or "routed" in reported
    )


@pytest.mark.parametrize(
    ("phase", "severity"), [("READY", "ok"), ("FAILED", "blocking"), ("PROCESSING", "info")]
)
def test_the_state_of_a_data_set_is_judged(
    phase: str, severity: str, looking: Cluster, cluster: Cluster, namespace: str
) -> None:
    version = "dataset.baizeai.io/v1alpha1"
    ref = Ref(apiVersion=version, kind="Dataset", namespace=namespace, name="weights")
    spec = {"source": {"type": "HTTP", "uri": "http://example.com/x"}}
    metadata = {"name": "weights", "namespace": namespace}
    cluster.create({"apiVersion": version, "kind": "Dataset", "metadata": metadata, "spec": spec})
    cluster.patch(ref, {"status": {"phase": phase}}, subresource="status")
    need = {"api_version": version, "kind": "Dataset"}
    endpoint = {"namespace": namespace, "apis": [need], "datasets": [("Dataset", namespace, "weights")]}
    site = Site.model_validate({"endpoints": [endpoint]})
    found = run_checks(looking, site, checks=[one for one in CHECKS if one.id == "datasets"])
    [told] = [one for one in found if one.about == f"Dataset {namespace}/weights"]
    assert told.severity == severity, table(found)


@pytest.mark.parametrize(("left", "severity"), [(3, "ok"), (0, "blocking"), (None, "not checked")])
def test_the_addresses_that_a_pool_has_left_are_judged(
    left: int | None, severity: str, looking: Cluster, cluster: Cluster, namespace: str, image: str
) -> None:
    version = "metallb.io/v1beta1"
    ref = Ref(apiVersion=version, kind="IPAddressPool", namespace=namespace, name="pool")
    addresses = ["192.0.2.1-192.0.2.4"]
    metadata = {"name": "pool", "namespace": namespace}
    cluster.create(
        {
            "apiVersion": version,
            "kind": "IPAddressPool",
            "metadata": metadata,
            "spec": {"addresses": addresses},
        }
    )
    if left is not None:
        counts = {"assignedIPv4": 4 - left, "assignedIPv6": 0, "availableIPv4": left, "availableIPv6": 0}
        cluster.patch(ref, {"status": counts}, subresource="status")
    setup = {"address_pools": [{"name": "pool", "addresses": addresses}], "address_pool_namespace": namespace}
    site = whole(subject(namespace, image, endpoint="one"), setup=setup)
    found = run_checks(looking, site, checks=[one for one in CHECKS if one.id == "balancers"])
    [told] = [one for one in found if one.about == f"IPAddressPool {namespace}/pool"]
    assert told.severity == severity, table(found)


COMMANDS: dict[str, dict[str, Any]] = {
    "a namespace that is stricter than planned": {"pod_security": "privileged"},
    "a Secret that is not there": {"secrets": [{"name": "new", "keys": ["key"]}]},
}


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_that_a_finding_names_mends_it(
    case: str, as_slipway: Callable[..., Cluster], namespace: str, image: str, kubeconfig: Path
) -> None:
    wanted = subject(namespace, image, **COMMANDS[case])
    slipway = as_slipway(namespace, may_see=("new",))
    [found] = blocking(run_checks(slipway, wanted))
    program = kubeconfig.parents[1] / "bin" / "kubectl"
    command = shlex.split(found.remedy)
    assert command[0] == "kubectl"
    command[:1] = [str(program) if program.exists() else "kubectl", "--kubeconfig", str(kubeconfig)]
    subprocess.run(command, check=True, capture_output=True)
    assert blocking(run_checks(slipway, wanted)) == []
