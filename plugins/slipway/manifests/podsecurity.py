"""Which Pod Security level a serving pod needs, held against what its namespace enforces.

The levels are Kubernetes' own (https://kubernetes.io/docs/concepts/security/pod-security-standards/). What the
records decide is looked at here: the device's needs, mounts from the node, the node's network, the runtime's user and
the security contexts that it brings. The dry-run on the server stays the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from slipway.catalog.faults import Fault
from slipway.catalog.records import Accelerator, Cluster, Endpoint, PodSecurity, Runtime

_STRICTNESS: Sequence[PodSecurity] = ("privileged", "baseline", "restricted")

# What "baseline" lets a container add.
_HARMLESS = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)


def pod_security_faults(
    endpoint: Endpoint, device: Accelerator, *, runtime: Runtime, cluster: Cluster
) -> Iterator[Fault]:
    """Say which parts of the endpoint its namespace would refuse."""
    enforced = cluster.level_of(endpoint.namespace)
    for where, needed, reason in _needs(endpoint, device, runtime):
        if _STRICTNESS.index(needed) < _STRICTNESS.index(enforced):
            yield Fault(
                where,
                f"{reason}, which needs Pod Security level {needed}; namespace {endpoint.namespace!r} of cluster "
                f"{cluster.name!r} enforces {enforced}",
            )


def host_paths(volumes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The directories of the node that volumes mount."""
    found = [volume.get("hostPath") for volume in volumes]
    return [str(source.get("path", "?")) for source in found if isinstance(source, Mapping)]


def _needs(
    endpoint: Endpoint, device: Accelerator, runtime: Runtime
) -> Iterator[tuple[str, PodSecurity, str]]:
    yield "accelerator", device.pod_security, f"accelerator {device.name!r} asks for more than others"
    paths = ", ".join(host_paths(runtime.volumes))
    if paths:
        yield "runtime", "privileged", f"runtime {runtime.name!r} mounts {paths} from the node"
    if endpoint.placement.host_network:
        yield "placement.host_network", "privileged", "the pods use the node's network"
    for context in (runtime.security_context, *_of_init_containers(runtime)):
        if context and _breaks_baseline(context):
            yield "runtime", "privileged", f"a container of runtime {runtime.name!r} is privileged"
    if not _restricted(runtime):
        yield (
            "runtime",
            "baseline",
            f"runtime {runtime.name!r} runs as root or brings a looser security context",
        )


def _of_init_containers(runtime: Runtime) -> Iterator[Mapping[str, Any] | None]:
    for container in runtime.init_containers:
        context = container.get("securityContext")
        yield context if isinstance(context, Mapping) else None


def _breaks_baseline(context: Mapping[str, Any]) -> bool:
    added = set(_mapping(context.get("capabilities")).get("add") or ())
    return bool(context.get("privileged")) or not added <= _HARMLESS


def _restricted(runtime: Runtime) -> bool:
    """Whether the main container may run in a namespace that enforces ``restricted``.

    Where the runtime brings no context of its own, the house's is restricted as long as its user is not root.
    """
    pod, container = runtime.pod_security_context, runtime.security_context
    both = {**(pod or {}), **(container or {})}
    if pod is None:
        # The house's context of the pod; the container's own still counts where it says otherwise.
        both = {
            "runAsNonRoot": runtime.user != 0,
            "runAsUser": runtime.user,
            "seccompProfile": {"type": "RuntimeDefault"},
            **(container or {}),
        }
    as_root = both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0
    profile = _mapping(both.get("seccompProfile")).get("type")
    return not as_root and profile in ("RuntimeDefault", "Localhost") and _drops_all(container)


def _drops_all(container: Mapping[str, Any] | None) -> bool:
    if container is None:
        return True
    capabilities = _mapping(container.get("capabilities"))
    return (
        container.get("allowPrivilegeEscalation") is False
        and "ALL" in (capabilities.get("drop") or ())
        and set(capabilities.get("add") or ()) <= {"NET_BIND_SERVICE"}
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
