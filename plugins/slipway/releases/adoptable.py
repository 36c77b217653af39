"""What of an endpoint can be adopted: what is there under its names, and whether the record fits it.

Each refusal is a user's mistake with one line that says what to change, in the catalog or in the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slipway.cluster.adopting import ADOPTABLE_KINDS, replica_set_of, without_house_labels
from slipway.cluster.client import Cluster
from slipway.cluster.faults import UnknownKindError
from slipway.cluster.objects import (
    ENDPOINT_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    RELEASE_LABEL,
    Object,
    Ref,
    labels_of,
    ref_of,
    workload_api,
)
from slipway.cluster.ownership import foreign_managers
from slipway.errors import UsageError
from slipway.manifests.plan import Plan
from slipway.manifests.render import Rendered
from slipway.releases.inventory import NUMBER_LABEL

_NO_CLAIMS = frozenset({"PersistentVolumeClaim", "PersistentVolume"})


def serving_controller(cluster: Cluster, plan: Plan) -> Object:
    """The workload of the endpoint's name, of the kind that the record says."""
    name, namespace = plan.controller_name, plan.namespace
    if plan.controller not in ADOPTABLE_KINDS:
        raise UsageError(
            "a group of pods cannot be adopted",
            about=plan.endpoint,
            why=f"a {plan.controller} restarts its pods for every label",
            remedy=f"Deploy it beside under another name: slipway deploy {plan.endpoint}",
        )
    for kind in (plan.controller, *ADOPTABLE_KINDS):
        api_version = workload_api(kind)[0]
        found = cluster.get(api_version=api_version, kind=kind, name=name, namespace=namespace)
        if found is None:
            continue
        if kind != plan.controller:
            raise UsageError(
                "another kind of controller keeps the pods",
                about=f"{kind} {namespace}/{name}",
                remedy=f"Set controller: {kind} in catalog/endpoints/{plan.endpoint}.yaml",
            )
        if not found["spec"]["selector"].get("matchLabels"):
            raise UsageError(
                "its selector names no label", about=f"{kind} {namespace}/{name}", remedy="Deploy it beside"
            )
        return found
    raise UsageError(
        "there is nothing to adopt",
        about=f"{plan.controller} {namespace}/{name}",
        why="nobody can rename an object: the endpoint must be named as what keeps its pods, and as their Service",
        remedy=f"Name the record in catalog/endpoints as the one that is there: kubectl -n {namespace} get sts,deploy",
    )


def refuse_adopted(cluster: Cluster, plan: Plan) -> None:
    """Refuse an endpoint of which the cluster keeps a good release.

    Raises:
        UsageError: it is Slipway's already.
    """
    labels = {ENDPOINT_LABEL: plan.object_name}
    found = cluster.list(api_version="v1", kind="ConfigMap", namespace=plan.namespace, labels=labels)
    if any(NUMBER_LABEL in labels_of(one) for one in found):
        raise UsageError(
            "the endpoint is Slipway's already",
            about=plan.endpoint,
            why=f"namespace {plan.namespace} keeps its releases",
            remedy=f"Change it by a deployment; slipway history {plan.endpoint} --rebuild reads its releases",
        )


def published_service(cluster: Cluster, plan: Plan, controller: Object) -> Object:
    """The Service that clients use."""
    name, namespace = plan.object_name, plan.namespace
    about, port = f"Service {namespace}/{name}", plan.server.port
    kind = plan.controller.lower()
    service = cluster.get(api_version="v1", kind="Service", name=name, namespace=namespace)
    if service is None:
        raise UsageError(
            "clients have no Service of the endpoint's name",
            about=about,
            remedy=f"Make one: kubectl -n {namespace} expose {kind} {plan.controller_name} --name={name} --port={port}",
        )
    spec = service["spec"]
    if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("clusterIP") == "None":
        found = "headless" if spec.get("clusterIP") == "None" else spec["type"]
        raise UsageError(
            "a deployment would make another kind of Service of it",
            about=f"{about}, {found}",
            why="the Service of the endpoint's name is for clients in the cluster",
            remedy="Make a Service of that name of type ClusterIP, and for clients outside one of another name "
            "that exposure.services in the record names",
        )
    ports = [one["port"] for one in spec.get("ports") or []]
    if port not in ports:
        raise UsageError(
            "clients use another port than the runtime has",
            about=f"{about}: {', '.join(map(str, ports))}",
            why=f"its runtime in the catalog serves on {port}, and so would the Service after the next deployment",
            remedy=f"Give the endpoint a runtime with port: {ports[0] if ports else port}",
        )
    if not _leads_to(service, controller):
        raise UsageError(
            "the Service of the endpoint's name leads to other pods",
            about=about,
            why=f"its selector does not fit those of {ref_of(controller)}",
            remedy="Correct the selector",
        )
    return service


def _leads_to(service: Object, controller: Object) -> bool:
    selector = without_house_labels(service["spec"].get("selector"))
    return bool(selector) and set(selector.items()) <= set(labels_of(controller["spec"]["template"]).items())


def other_objects(cluster: Cluster, rendered: Rendered, *, but: Sequence[Ref]) -> Iterator[Object]:
    """What else is there under the names that a deployment would apply; claims are left as they are."""
    for obj in rendered.objects():
        ref = ref_of(obj)
        if ref in but or ref.kind in _NO_CLAIMS:
            continue
        try:
            found = cluster.get(
                api_version=ref.apiVersion, kind=ref.kind, name=ref.name, namespace=ref.namespace
            )
        except UnknownKindError:
            continue
        if found is not None and not found["metadata"].get("ownerReferences"):
            yield found


def refuse_foreign(live: Object) -> None:
    """Refuse an object that a chart, an operator or a GitOps controller keeps as it is.

    Raises:
        UsageError: names it.
    """
    owners = live["metadata"].get("ownerReferences") or []
    managers = [f"{one['kind']} {one['name']}" for one in owners] or foreign_managers(live)
    managed_by = labels_of(live).get(MANAGED_BY_LABEL)
    if managed_by not in (None, MANAGER) and not managers:
        managers = [f"the label {MANAGED_BY_LABEL}: {managed_by}"]
    if managers:
        raise UsageError(
            "another program manages the object and would set it back",
            about=str(ref_of(live)),
            why=", ".join(managers),
            remedy="Take it out of that program's hands first, then adopt it with --take-over",
        )


def refuse_unready(cluster: Cluster, controller: Object) -> None:
    """Refuse what is on its way to another state: nobody could say afterwards who restarted a pod."""
    status, spec, about = controller.get("status", {}), controller["spec"], str(ref_of(controller))
    wanted = spec.get("replicas", 1)
    if spec.get("paused"):
        replicas = replica_set_of(cluster, controller)
        if ENDPOINT_LABEL not in labels_of(replicas["spec"]["template"]):
            raise UsageError("its rollout is paused", about=about, remedy="kubectl rollout resume")
    marked = labels_of(spec["template"]).get(RELEASE_LABEL) is not None
    done = status.get("updatedReplicas", 0) == wanted or marked
    if wanted == 0 or status.get("readyReplicas", 0) != wanted or not done:
        ready = f"{status.get('readyReplicas', 0)} of {wanted} pods ready"
        raise UsageError(
            "only what serves can be adopted", about=about, why=ready, remedy="Wait until all pods are ready"
        )


def leading_elsewhere(cluster: Cluster, plan: Plan, rendered: Rendered, controller: Object) -> Iterator[str]:
    """Say which other Services lead to the pods of now, and so to nothing after a deployment has replaced them."""
    taken = {ref_of(one) for one in rendered.objects()} | {
        Ref(apiVersion="v1", kind="Service", namespace=plan.namespace, name=plan.object_name)
    }
    for service in cluster.list(api_version="v1", kind="Service", namespace=plan.namespace):
        ref, kind = ref_of(service), service["spec"].get("type", "ClusterIP")
        ours = labels_of(service).get(ENDPOINT_LABEL) == plan.object_name
        if ref in taken or ours or not _leads_to(service, controller):
            continue
        if kind in ("LoadBalancer", "NodePort"):
            raise UsageError(
                "clients outside use a Service that the record does not name",
                about=f"{ref}, {kind}",
                why="it would lead nowhere once a deployment has replaced the pods",
                remedy=f"Add it to catalog/endpoints/{plan.endpoint}.yaml: exposure: {{services: "
                f"[{{type: {kind}, name: {ref.name}}}]}}",
            )
        if service["spec"].get("clusterIP") != "None":
            yield (
                f"{ref} leads to these pods too; it is not adopted, and leads nowhere once a deployment has "
                "replaced them"
            )
