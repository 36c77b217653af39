"""Checks of the API itself and of the namespace."""

from __future__ import annotations

import re

from slipway.checks.findings import Finding
from slipway.checks.subject import Subject, View
from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.objects import labels_of

OLDEST = (1, 27)
"""From 1.27 on the server checks fields strictly, which is what finds a mistyped field before it does harm."""


def check_api(view: View, subject: Subject) -> list[Finding]:
    """The API answers, over a verified connection, and is new enough."""
    about = view.cluster.server
    try:
        version = view.cluster.version()
    except (ApiError, UnreachableError) as error:
        return [Finding(check="api", severity="blocking", about=about, reason=error.why, remedy=error.remedy)]
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None:
        reason = f"its version {version!r} says nothing"
        return [Finding(check="api", severity="not checked", about=about, reason=reason)]
    if (int(found[1]), int(found[2])) < OLDEST:
        return [
            Finding(
                check="api",
                severity="blocking",
                about=about,
                reason=f"Kubernetes {version} has no strict validation on the server",
                remedy=f"Upgrade the cluster to {OLDEST[0]}.{OLDEST[1]} or newer",
            )
        ]
    return [Finding(check="api", severity="ok", about=about, reason=f"Kubernetes {version}")]


def check_namespace(view: View, subject: Subject) -> list[Finding]:
    """The namespace is there; its Pod Security level is told, since it decides which pods are let in."""
    name = subject.namespace
    about = f"Namespace {name}"
    namespace = view.cluster.get(api_version="v1", kind="Namespace", name=name)
    if namespace is None:
        return [
            Finding(
                check="namespace",
                severity="blocking",
                about=about,
                reason="there is no such namespace",
                remedy=f"kubectl create namespace {name}",
            )
        ]
    if namespace.get("status", {}).get("phase") == "Terminating":
        return [
            Finding(
                check="namespace",
                severity="blocking",
                about=about,
                reason="it is being deleted",
                remedy=f"Wait until it is gone, then: kubectl create namespace {name}",
            )
        ]
    level = labels_of(namespace).get("pod-security.kubernetes.io/enforce")
    told = f"Pod Security level {level}" if level else "it sets no Pod Security level of its own"
    return [
        Finding(check="namespace", severity="ok", about=about, reason="it is there"),
        Finding(check="namespace", severity="info", about=about, reason=told),
    ]
