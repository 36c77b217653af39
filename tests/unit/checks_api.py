"""An API server over a list of objects, for the checks; and what its controllers would do after a change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from slipway.cluster.objects import Object

USER = "slipway"
PLURALS = {
    "IngressClass": "ingressclasses",
    "StorageClass": "storageclasses",
    "GatewayClass": "gatewayclasses",
    "L2Advertisement": "l2advertisements",
}


BUILT_IN = (
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("apps/v1", "DaemonSet"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("storage.k8s.io/v1", "CSIDriver"),
    ("coordination.k8s.io/v1", "Lease"),
    ("v1", "LimitRange"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ResourceQuota"),
)


def plural_of(kind: str) -> str:
    return PLURALS.get(kind, f"{kind.lower()}s")


class FakeApi:
    """An API server over a list of objects; every kind that the list has is installed, and those named besides."""

    def __init__(
        self,
        objects: list[Object],
        *,
        kinds: Iterable[tuple[str, str]] = (),
        denied: Callable[[dict[str, str]], bool] = lambda access: False,
        version: str = "v1.34.4",
        clock: timedelta = timedelta(),
        forbidden: Iterable[str] = (),
    ) -> None:
        self.configuration = SimpleNamespace(host="https://cluster.test:6443", verify_ssl=True)
        self.objects, self.denied, self.version, self.clock = objects, denied, version, clock
        self.forbidden = set(forbidden)
        self.kinds = {(one["apiVersion"], one["kind"]) for one in objects} | set(kinds) | set(BUILT_IN)

    def call_api(self, path: str, method: str, *, body: Any = None, **_: Any) -> Any:
        status, answer = self._answer(path, body)
        moment = (datetime.now(UTC) + self.clock).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return SimpleNamespace(status=status, data=json.dumps(answer).encode(), headers={"Date": moment})

    def _answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"gitVersion": self.version}
        if path == "/readyz":
            return 200, {}
        if path.endswith("/selfsubjectaccessreviews"):
            access = body["spec"]["resourceAttributes"]
            allowed = not self.denied(access) or self._granted(access["resource"], access["verb"])
            return 200, {"status": {"allowed": allowed}}
        if path.endswith("/selfsubjectreviews"):
            return 200, {"status": {"userInfo": {"username": USER}}}
        parts = path.strip("/").split("/")
        version = parts[1] if parts[0] == "api" else "/".join(parts[1:3])
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if not rest:
            return self._discover(version)
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if rest[0] in self.forbidden and not self._granted(rest[0], "list"):
            return 403, {"kind": "Status", "message": f"{rest[0]} is forbidden", "reason": "Forbidden"}
        return self._find(version, rest, namespace)

    def _granted(self, resource: str, verb: str) -> bool:
        """Whether a role that is bound to the user has a right."""
        roles = [one for one in self.objects if one["kind"] in ("Role", "ClusterRole")]
        bound = {
            (one["roleRef"]["kind"], one["roleRef"]["name"])
            for one in self.objects
            if one["kind"].endswith("RoleBinding") and one["subjects"][0]["name"] == USER
        }
        return any(
            resource in rule["resources"] and verb in rule["verbs"]
            for one in roles
            if (one["kind"], one["metadata"]["name"]) in bound
            for rule in one["rules"]
        )

    def _discover(self, version: str) -> tuple[int, Any]:
        found = sorted(kind for at, kind in self.kinds if at == version)
        resources = [{"name": plural_of(kind), "kind": kind, "namespaced": True} for kind in found]
        for one in resources:
            listed = [obj for obj in self.objects if obj["kind"] == one["kind"]]
            one["namespaced"] = all("namespace" in obj["metadata"] for obj in listed)
        return (200, {"resources": resources}) if found else (404, {"kind": "Status", "message": "not found"})

    def _find(self, version: str, rest: list[str], namespace: str | None) -> tuple[int, Any]:
        found = [
            one
            for one in self.objects
            if one["apiVersion"] == version
            and plural_of(one["kind"]) == rest[0]
            and namespace in (None, one["metadata"].get("namespace"))
        ]
        if len(rest) == 1:
            return 200, {"items": found}
        named = [one for one in found if one["metadata"]["name"] == rest[1]]
        return (200, named[0]) if named else (404, {"kind": "Status", "message": "not found"})
