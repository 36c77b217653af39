"""Checks of an endpoint's namespace: that it is there, whom it lets in, and how much it grants."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from slipway.catalog.quantities import quantity, readable
from slipway.catalog.records import PodSecurity
from slipway.checks.findings import Finding, Report
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of

LEVEL = "pod-security.kubernetes.io/enforce"
_STRICTNESS: Sequence[PodSecurity] = ("privileged", "baseline", "restricted")


def check_namespace(view: View, subject: Subject) -> list[Finding]:
    """The namespace is there and as strict as its cluster's record says; the endpoint was planned for that."""
    report, name = Report("namespace"), subject.namespace
    about = f"Namespace {name}"
    namespace = view.one("v1", "Namespace", name)
    if namespace is None:
        report.add("blocking", about, "there is no such namespace", f"kubectl create namespace {name}")
        return report.findings
    if namespace.get("status", {}).get("phase") == "Terminating":
        remedy = f"Wait until it is gone, then make it anew: kubectl get namespace {name} --watch"
        report.add("blocking", about, "it is being deleted", remedy)
        return report.findings
    report.add("ok", about, "it is there")
    level = labels_of(namespace).get(LEVEL)
    wanted = subject.pod_security
    if level in _STRICTNESS and wanted and _STRICTNESS.index(level) > _STRICTNESS.index(wanted):
        reason = (
            f"it enforces Pod Security level {level}, its cluster's record says {wanted}: pods may be refused"
        )
        report.add("blocking", about, reason, f"kubectl label namespace {name} --overwrite {LEVEL}={wanted}")
    elif level is None:
        report.add("info", about, "it sets no Pod Security level of its own")
    else:
        report.add("info", about, f"Pod Security level {level}")
    return report.findings


def check_quotas(view: View, site: Site) -> list[Finding]:
    """The quotas and LimitRanges of the endpoints' namespaces let their pods in."""
    report = Report("quotas")
    for namespace in sorted({one.namespace for one in site.endpoints}):
        here = [one for one in site.endpoints if one.namespace == namespace]
        quotas = view.all_of("v1", "ResourceQuota", namespace=namespace)
        ranges = view.all_of("v1", "LimitRange", namespace=namespace)
        before = len(report.findings)
        for quota in quotas:
            about = f"ResourceQuota {namespace}/{quota['metadata']['name']}"
            for reason, change in _too_little(quota, here):
                report.add("blocking", about, reason, f"Raise it, or ask for less: {_patch(quota, change)}")
        for limits in ranges:
            about = f"LimitRange {namespace}/{limits['metadata']['name']}"
            for reason, change in _outside(limits, here):
                report.add("blocking", about, reason, f"Widen it, or ask for less: {_patch(limits, change)}")
        if len(report.findings) == before:
            told = f"{len(quotas)} quotas and {len(ranges)} limit ranges" if quotas or ranges else "no quota"
            report.add("ok", f"Namespace {namespace}", f"{told}: every endpoint's pods are let in")
    return report.findings


def _patch(obj: Object, change: Object) -> str:
    """The command that changes one field of an object; of a list, the field by its place."""
    metadata, kind = obj["metadata"], obj["kind"].lower()
    form = f"--type=json -p '{json.dumps([change])}'"
    return f"kubectl -n {metadata['namespace']} patch {kind} {metadata['name']} {form}"


def _replace(path: str, value: str) -> Object:
    return {"op": "replace", "path": path, "value": value}


def _too_little(quota: Object, subjects: Sequence[Subject]) -> Iterator[tuple[str, Object]]:
    """Say which endpoint a quota has no room for, even if nothing else were there.

    What is used of it now is not counted: an endpoint's own pods may be part of that. Scoped quotas count only some
    pods, and are left out.
    """
    if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
        return
    hard = (quota.get("status") or {}).get("hard") or quota["spec"].get("hard") or {}
    for resource, limit in hard.items():
        name = resource.removeprefix("requests.")
        for subject in subjects:
            wanted = _wanted(subject, name)
            if wanted and wanted > quantity(limit):
                told = f"{readable(name, wanted)} are asked for, {limit} is all that it grants"
                change = _replace(f"/spec/hard/{resource.replace('/', '~1')}", _amount(wanted))
                yield (
                    f"{resource}: endpoint {subject.endpoint or 'of this plan'} does not fit: {told}",
                    change,
                )


def _wanted(subject: Subject, resource: str) -> Fraction:
    if resource in ("pods", "count/pods"):
        return Fraction(subject.pods)
    if resource in ("persistentvolumeclaims", "count/persistentvolumeclaims"):
        return Fraction(1 if subject.storage else 0)
    if resource == "storage":
        return quantity(subject.storage.size) if subject.storage else Fraction(0)
    return (
        quantity(subject.requests[resource]) * subject.pods if resource in subject.requests else Fraction(0)
    )


def _amount(wanted: Fraction) -> str:
    """A quantity that is enough, as Kubernetes reads it."""
    return (
        str(math.ceil(wanted)) if wanted >= 10 or wanted.denominator == 1 else f"{math.ceil(wanted * 1000)}m"
    )


def _outside(limits: Object, subjects: Sequence[Subject]) -> Iterator[tuple[str, Object]]:
    for place, rule in enumerate(limits["spec"].get("limits") or []):
        kind, path = rule.get("type"), f"/spec/limits/{place}"
        if kind == "PersistentVolumeClaim":
            yield from _claims_outside(rule, subjects, path=path)
        if kind not in ("Pod", "Container"):
            continue
        for subject in subjects:
            for resource, amount in subject.requests.items():
                least, most = (rule.get("min") or {}).get(resource), (rule.get("max") or {}).get(resource)
                name = subject.endpoint or "of this plan"
                field = resource.replace("/", "~1")
                if most is not None and quantity(amount) > quantity(most):
                    told = f"a {kind.lower()} may have {resource} {most}, endpoint {name} asks for {amount}"
                    yield told, _replace(f"{path}/max/{field}", amount)
                if least is not None and quantity(amount) < quantity(least):
                    told = (
                        f"a {kind.lower()} must ask for {resource} {least}, endpoint {name} asks for {amount}"
                    )
                    yield told, _replace(f"{path}/min/{field}", amount)


def _claims_outside(rule: Object, subjects: Sequence[Subject], *, path: str) -> Iterator[tuple[str, Object]]:
    most = (rule.get("max") or {}).get("storage")
    for subject in subjects:
        if most is not None and subject.storage and quantity(subject.storage.size) > quantity(most):
            asked = subject.storage.size
            told = f"a claim may have {most}, endpoint {subject.endpoint or 'of this plan'} asks for {asked}"
            yield told, _replace(f"{path}/max/storage", asked)
