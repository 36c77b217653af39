"""Checks of the volume and of the Secrets that pods mount or read."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from slipway.catalog.quantities import quantity
from slipway.checks.findings import Finding
from slipway.checks.subject import SecretNeed, Storage, Subject
from slipway.checks.view import View
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object
from slipway.cluster.verdict import lasted

_BOUND_SECONDS = 60.0


def check_storage(view: View, subject: Subject) -> list[Finding]:
    """The claim is there and fits, or the storage class that is to make it is there."""
    storage = subject.storage
    if storage is None:
        return []
    claim = view.cluster.get(
        api_version="v1", kind="PersistentVolumeClaim", namespace=subject.namespace, name=storage.claim
    )
    if claim is not None:
        return _claim(view, claim, storage, namespace=subject.namespace)
    return _storage_class(view, storage, replicas=subject.replicas)


def _claim(view: View, claim: Object, storage: Storage, *, namespace: str) -> list[Finding]:
    about = f"PersistentVolumeClaim {namespace}/{storage.claim}"
    spec, status = claim["spec"], claim.get("status", {})
    inspect = f"kubectl -n {namespace} describe pvc {storage.claim}"
    modes, its_class = spec.get("accessModes") or [], spec.get("storageClassName") or ""
    size = (status.get("capacity") or {}).get("storage") or spec["resources"]["requests"]["storage"]

    def finding(severity: str, reason: str, remedy: str = "") -> Finding:
        return Finding.model_validate(
            {"check": "storage", "severity": severity, "about": about, "reason": reason, "remedy": remedy}
        )

    faults = []
    if claim["metadata"].get("deletionTimestamp"):
        faults.append(finding("blocking", "it is being deleted", f"Wait until it is gone: {inspect}"))
    if status.get("phase") == "Lost":
        faults.append(finding("blocking", f"its volume {spec.get('volumeName', '')} is lost", inspect))
    if quantity(size) < quantity(storage.size):
        reason = f"it has {size}, {storage.size} are needed"
        faults.append(finding("blocking", reason, _expand(view, claim, storage, namespace=namespace)))
    if storage.access_mode not in modes:
        reason = f"its access mode is {', '.join(modes)}, {storage.access_mode} is needed"
        faults.append(
            finding("blocking", reason, "Name the mode it has, or another claim, in the endpoint's volume")
        )
    if storage.storage_class and storage.storage_class != its_class:
        reason = f"its storage class is {its_class or 'none'}, the endpoint names {storage.storage_class}"
        faults.append(
            finding("blocking", reason, "A claim's class cannot be changed: name its own, or another claim")
        )
    if faults:
        return faults
    if status.get("phase") == "Bound":
        return [finding("ok", f"bound, {size}, {', '.join(modes)}, class {its_class}")]
    return [finding(*_unbound(view, claim, its_class), inspect)]


def _expand(view: View, claim: Object, storage: Storage, *, namespace: str) -> str:
    """How a claim that is too small becomes larger: by a command, where its class lets it grow."""
    its_class = claim["spec"].get("storageClassName") or ""
    found = view.one("storage.k8s.io/v1", "StorageClass", its_class) if its_class else None
    if not found or not found.get("allowVolumeExpansion"):
        return f"Class {its_class or 'none'} does not expand: name another claim in the endpoint's volume"
    change = json.dumps({"spec": {"resources": {"requests": {"storage": storage.size}}}})
    return f"kubectl -n {namespace} patch pvc {storage.claim} --type=merge -p '{change}'"


def _unbound(view: View, claim: Object, its_class: str) -> tuple[str, str]:
    """Severity and reason of a claim without a volume: still right, or nobody will ever make one."""
    phase = claim.get("status", {}).get("phase", "Pending")
    found = view.one("storage.k8s.io/v1", "StorageClass", its_class) if its_class else None
    if its_class and found is None and not claim["spec"].get("volumeName"):
        return "blocking", f"{phase}: its class {its_class} is not there, so nobody makes its volume"
    if found and found.get("volumeBindingMode") == "WaitForFirstConsumer":
        return "info", f"{phase}: it is bound when its first pod comes"
    if not lasted(claim["metadata"].get("creationTimestamp"), datetime.now(UTC), _BOUND_SECONDS):
        return "info", f"{phase}: its volume is being made"
    maker = f"provisioner {found.get('provisioner', '')}" if found else "whoever makes volumes by hand"
    return "blocking", f"{phase} for more than {_BOUND_SECONDS:.0f} s: {maker} has made no volume for it"


def _storage_class(view: View, storage: Storage, *, replicas: int) -> list[Finding]:
    about = f"StorageClass {storage.storage_class}"
    classes = view.cluster.list(api_version="storage.k8s.io/v1", kind="StorageClass")
    names = sorted(one["metadata"]["name"] for one in classes)
    chosen = next((one for one in classes if one["metadata"]["name"] == storage.storage_class), None)
    if chosen is None:
        return [
            Finding(
                check="storage",
                severity="blocking",
                about=about,
                reason=f"there is no such storage class; there are: {', '.join(names) or 'none'}",
                remedy="Name one of them in the endpoint's volume or the cluster's record: kubectl get storageclass",
            )
        ]
    found = [
        Finding(
            check="storage",
            severity="ok",
            about=about,
            reason=f"provisioner {chosen.get('provisioner', '')}, "
            f"binding {chosen.get('volumeBindingMode', 'Immediate')}",
        )
    ]
    if storage.access_mode.startswith("ReadWriteOnce") and replicas > 1:
        found.append(
            Finding(
                check="storage",
                severity="warning",
                about=about,
                reason=f"{replicas} replicas share a {storage.access_mode} volume, so all must be on one node",
                remedy="Use a class with ReadWriteMany to spread them",
            )
        )
    return found


def check_secrets(view: View, subject: Subject) -> list[Finding]:
    """Each Secret is there with its keys. Values are looked at only to see that they are not empty."""
    return [_secret(view, need, namespace=subject.namespace) for need in subject.secrets]


def _secret(view: View, need: SecretNeed, *, namespace: str) -> Finding:
    about = f"Secret {namespace}/{need.name}"
    literals = " ".join(f"--from-literal={key}=…" for key in need.keys) or "--from-literal=KEY=…"
    create = f"kubectl -n {namespace} create secret generic {need.name} {literals}"
    try:
        secret = view.cluster.get(api_version="v1", kind="Secret", namespace=namespace, name=need.name)
    except ApiError as error:
        if error.status != 403:
            raise
        return Finding(
            check="secrets",
            severity="not checked",
            about=about,
            reason="this connection may not read it",
            remedy=f"If it is not there: {create}",
        )
    if secret is None:
        reason = "there is no such Secret"
        return Finding(check="secrets", severity="blocking", about=about, reason=reason, remedy=create)
    data = secret.get("data") or {}
    missing = [key for key in need.keys if not data.get(key)]
    if missing:
        values = json.dumps({"stringData": dict.fromkeys(missing, "…")}, ensure_ascii=False)
        return Finding(
            check="secrets",
            severity="blocking",
            about=about,
            reason=f"no value for {', '.join(missing)}; its keys are: {', '.join(sorted(data)) or 'none'}",
            remedy=f"kubectl -n {namespace} patch secret {need.name} --type=merge -p '{values}'",
        )
    told = f"has {', '.join(need.keys)}" if need.keys else "it is there"
    return Finding(check="secrets", severity="ok", about=about, reason=told)
