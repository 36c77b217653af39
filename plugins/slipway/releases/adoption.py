"""Adopting an endpoint that somebody applied with kubectl: its live objects become its first release.

The release's bytes are the live objects' own manifests with Slipway's labels, so that going back to it later makes
them again. What would leave the endpoint unprovable, or its clients without a way in after the next deployment, is
refused with what to change in the catalog.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from slipway.catalog.names import COMPONENT_LABEL, MANAGED_BY_LABEL
from slipway.cluster.adopting import manifest_of, without_house_labels
from slipway.cluster.client import Cluster
from slipway.cluster.diff import Difference, unified
from slipway.cluster.objects import ENDPOINT_LABEL, RELEASE_LABEL, Object, Ref, labels_of, ref_of
from slipway.manifests.plan import Plan
from slipway.manifests.render import Rendered, Stage, service_name
from slipway.releases.adoptable import (
    leading_elsewhere,
    other_objects,
    published_service,
    refuse_adopted,
    refuse_foreign,
    refuse_unready,
    serving_controller,
)


@dataclass(frozen=True)
class Adoption:
    """What adopting an endpoint would do.

    Attributes:
        plan: of the release: the catalog's, with what really runs.
        rendered: the release's objects.
        live: those of them that are there, as they are.
        pod_labels: what its pods get.
        notes: what a person has to know besides, one line each.
    """

    plan: Plan
    rendered: Rendered
    live: Sequence[Object]
    pod_labels: Mapping[str, str]
    notes: Sequence[str]

    @property
    def controller(self) -> Object:
        """What keeps the pods, as it is."""
        return next(one for one in self.live if one["kind"] == self.plan.controller)

    def changes(self) -> Iterator[Difference]:
        """How each live object would differ once it is adopted; what is new comes as a whole."""
        there = {ref_of(one): one for one in self.live}
        for obj in self.rendered.objects():
            live = there.get(ref_of(obj))
            if live is None:
                yield Difference(ref_of(obj), unified(ref_of(obj), None, obj, becomes="adopted"), new=True)
                continue
            kept = {key: value for key, value in live["spec"].items() if key != "updateStrategy"}
            adopted = {**live, "metadata": {**live["metadata"], "labels": obj["metadata"]["labels"]}}
            adopted["spec"] = {**kept, **obj["spec"]}
            yield Difference(ref_of(obj), unified(ref_of(obj), live, adopted, becomes="adopted"))


def examine(cluster: Cluster, plan: Plan, rendered: Rendered, *, take_over: bool = False) -> Adoption:
    """Look at what is there under an endpoint's names, and say what adopting it would do. Changes nothing.

    Args:
        cluster: where.
        plan: of the endpoint, as the catalog says.
        rendered: what a deployment of that plan would apply.
        take_over: also take objects over that other programs than kubectl manage.

    Raises:
        UsageError: it cannot be adopted as it is, or as the record is; says what to change.
    """
    refuse_adopted(cluster, plan)
    controller = serving_controller(cluster, plan)
    service = published_service(cluster, plan, controller)
    live = [controller, service, *other_objects(cluster, rendered, but=(ref_of(controller), ref_of(service)))]
    for obj in live:
        if not take_over:
            refuse_foreign(obj)
    refuse_unready(cluster, controller)
    notes = list(leading_elsewhere(cluster, plan, rendered, controller))
    adopted = _rendered(plan, rendered, live)
    labels = _pod_labels(plan, controller, adopted.release)
    return Adoption(plan=_plan(plan, controller), rendered=adopted, live=live, pod_labels=labels, notes=notes)


def _plan(plan: Plan, controller: Object) -> Plan:
    """The catalog's plan with what really runs, as far as it is needed to go back to it."""
    container = controller["spec"]["template"]["spec"]["containers"][0]
    resources = container.get("resources") or {}
    server = {
        "image": container["image"],
        "requests": {**(resources.get("limits") or {}), **(resources.get("requests") or {})},
        "limits": dict(resources.get("limits") or {}),
    }
    update = {"server": plan.server.model_copy(update=server), "adopted": True}
    return plan.model_copy(update={**update, "replicas": controller["spec"].get("replicas", 1)})


def _rendered(plan: Plan, wanted: Rendered, live: Sequence[Object]) -> Rendered:
    """The release's objects: the manifests of what is there, labelled, and a Service for this release alone."""
    manifests = {ref_of(one): manifest_of(one) for one in live}
    controller = next(one for one in manifests.values() if one["kind"] == plan.controller)
    release = _label(controller)
    stages: dict[Stage, list[Object]] = {"storage": [], "workload": [], "publication": []}
    for ref, obj in manifests.items():
        published = ref.kind == "Service" and ref.name == plan.object_name
        labels = labels_of(obj)
        if obj is controller:
            obj["spec"]["template"]["metadata"]["labels"] |= _pod_labels(plan, obj, release)
            labels |= plan.house_labels("server", release)
        else:
            labels |= plan.house_labels("published" if published else "server", None)
        obj["metadata"]["labels"] = labels
        if published:
            obj["spec"]["selector"] |= {RELEASE_LABEL: release}
            stages["workload"].insert(0, _release_service(plan, obj, release))
        stages[_stage_of(wanted, ref)].append(obj)
    return Rendered(release=release, stages=stages)


def _stage_of(wanted: Rendered, ref: Ref) -> Stage:
    return next(
        (stage for stage, objects in wanted.stages.items() if ref in map(ref_of, objects)), "workload"
    )


def _label(controller: Object) -> str:
    """What this release is called on its pods: a hash over what keeps them, as for a rendered one."""
    spec = {key: value for key, value in controller["spec"].items() if key != "replicas"}
    pods = {"kind": controller["kind"], "name": controller["metadata"]["name"], "spec": spec}
    return hashlib.sha256(json.dumps(pods, sort_keys=True).encode()).hexdigest()[:12]


def _pod_labels(plan: Plan, controller: Object, release: str) -> dict[str, str]:
    """The labels that pods get. What they say of their part and manager stays: selectors may ask for it."""
    there = without_house_labels(labels_of(controller["spec"]["template"]))
    theirs = (
        {COMPONENT_LABEL, MANAGED_BY_LABEL} if {COMPONENT_LABEL, MANAGED_BY_LABEL} & set(there) else set()
    )
    return {key: value for key, value in plan.house_labels("server", release).items() if key not in theirs}


def _release_service(plan: Plan, published: Object, release: str) -> Object:
    """The Service that reaches this release alone, with the ports of the one that clients use."""
    metadata: dict[str, Any] = {
        "name": service_name(plan, release=release),
        "namespace": plan.namespace,
        "labels": plan.house_labels("release", None),
    }
    ports = [
        {key: value for key, value in one.items() if key != "nodePort"}
        for one in published["spec"].get("ports") or []
    ]
    selector = {**published["spec"]["selector"], ENDPOINT_LABEL: plan.object_name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "selector": selector, "ports": deepcopy(ports)},
    }
