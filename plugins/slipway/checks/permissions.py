"""The one list of what Slipway may do in a cluster: checked before a run, printed when missing, bound in the sandbox.

A rule that is not here is not used; a change of code that needs another right changes this list first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import yaml

from slipway.checks.findings import Finding
from slipway.checks.rights import INFRASTRUCTURE_RULES, Rule
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.cluster.access import Access, can_i
from slipway.cluster.objects import MANAGED_BY_LABEL, MANAGER, Object

ROLE = "slipway"
CLUSTER_ROLE = "slipway-read"
INFRASTRUCTURE_ROLE = "slipway-infrastructure"


SECRETS = Rule(
    resources=("secrets",),
    verbs=("get",),
    why="the checks see that a Secret and its keys are there; pods get their values by reference, Slipway never",
    needed=False,
)

NAMESPACE_RULES: tuple[Rule, ...] = (
    Rule(
        resources=("pods",),
        verbs=("create", "get", "list", "watch", "patch", "delete"),
        why="step pods (KubernetesPodOperator: create, find again, mark as checked, delete), pod dry runs, waiting",
    ),
    Rule(resources=("pods/log",), verbs=("get",), why="logs of steps, and the last lines of what crashed"),
    Rule(
        resources=("events",),
        verbs=("list", "watch"),
        why="why something does not start; KubernetesPodOperator watches them while a pod starts",
    ),
    Rule(
        resources=("persistentvolumeclaims",),
        verbs=("get", "list", "watch", "create", "patch", "delete"),
        why="the volume with the weights; deleted only where a person asked for it as the endpoint was removed",
    ),
    Rule(
        resources=("configmaps",),
        verbs=("get", "list", "create", "patch", "delete"),
        why="a release's inventory and manifests, kept beside the endpoint",
    ),
    Rule(
        resources=("services",),
        verbs=("get", "list", "create", "patch", "delete"),
        why="the Service of each release and the published one",
    ),
    Rule(
        group="apps",
        resources=("statefulsets",),
        verbs=("get", "list", "watch", "create", "patch", "delete"),
        why="the workload, which a deployment waits for",
    ),
    Rule(
        group="apps",
        resources=("statefulsets/scale",),
        verbs=("get", "patch"),
        why="replicas, apart from an apply",
    ),
    Rule(
        group="coordination.k8s.io",
        resources=("leases",),
        verbs=("get", "create", "update"),
        why="one lock per endpoint",
    ),
)


def _whole(group: str, *resources: str, why: str) -> Rule:
    # "list" so that the regular look for changes by others reads a namespace at once.
    verbs = ("get", "list", "create", "patch", "delete")
    return Rule(group=group, resources=resources, verbs=verbs, why=why)


def _workload(group: str, resource: str) -> tuple[Rule, Rule]:
    return (
        Rule(
            group=group,
            resources=(resource,),
            verbs=("get", "list", "watch", "create", "patch", "delete"),
            why="the workload, which a deployment waits for",
        ),
        Rule(
            group=group,
            resources=(f"{resource}/scale",),
            verbs=("get", "patch"),
            why="replicas, apart from an apply",
        ),
    )


KIND_RULES: Mapping[str, tuple[Rule, ...]] = {
    "Deployment": (
        *_workload("apps", "deployments"),
        Rule(
            group="apps",
            resources=("replicasets",),
            verbs=("list", "patch"),
            why="adopting a Deployment without a restart",
            needed=False,
        ),
    ),
    "LeaderWorkerSet": _workload("leaderworkerset.x-k8s.io", "leaderworkersets"),
    "HTTPRoute": (_whole("gateway.networking.k8s.io", "httproutes", why="publication through a Gateway"),),
    "Ingress": (_whole("networking.k8s.io", "ingresses", why="publication through an Ingress controller"),),
    "HorizontalPodAutoscaler": (_whole("autoscaling", "horizontalpodautoscalers", why="autoscaling"),),
    "ScaledObject": (
        _whole("keda.sh", "scaledobjects", "triggerauthentications", why="autoscaling by KEDA"),
    ),
    "ServiceMonitor": (_whole("monitoring.coreos.com", "servicemonitors", why="metrics for Prometheus"),),
    "PodDisruptionBudget": (_whole("policy", "poddisruptionbudgets", why="pods that a drain leaves"),),
    "NetworkPolicy": (_whole("networking.k8s.io", "networkpolicies", why="who may reach the pods"),),
    "Dataset": (
        _whole("dataset.baizeai.io", "datasets", why="weights that BaizeAI's Dataset brings"),
        _whole("data.fluid.io", "datasets", "jindoruntimes", "dataloads", why="weights that Fluid brings"),
    ),
}
"""What only endpoints need whose objects have one of these kinds; a cluster without the kind ignores the right."""

STATIC_VOLUMES = Rule(
    resources=("persistentvolumes",),
    verbs=("get", "create", "patch"),
    why="a volume that is there already; never deleted by a deployment",
)
"""Of the whole cluster, and so given by nobody who didn't mean to: only endpoints with `volume.static` need it."""

CLUSTER_RULES: tuple[Rule, ...] = (
    Rule(
        resources=("nodes", "namespaces", "persistentvolumes"),
        verbs=("get", "list"),
        why="capacity, labels and taints of nodes; Pod Security level of a namespace; where a volume lies",
    ),
    Rule(
        resources=("pods",),
        verbs=("list",),
        why="what all pods of a node ask for already: free capacity is allocatable less that",
    ),
    Rule(
        group="storage.k8s.io",
        resources=("storageclasses",),
        verbs=("get", "list"),
        why="whether the storage class is there",
    ),
    Rule(
        group="authorization.k8s.io",
        resources=("selfsubjectaccessreviews",),
        verbs=("create",),
        why="asking which of these rights are missing",
    ),
)


def rbac_yaml(*, user: str, namespace: str, secrets: Sequence[str] = (), infrastructure: bool = False) -> str:
    """Return roles and bindings that give a user exactly what Slipway needs, ready for ``kubectl apply -f -``.

    Args:
        user: the user's name, as its certificate or token says it.
        namespace: one namespace with endpoints; further ones get the same Role and RoleBinding.
        secrets: the only Secrets whose keys may be looked at; with none, no right on Secrets is given at all.
        infrastructure: whether also to read what the checks of the whole cluster look at.
    """
    header = "# Written by slipway.checks.permissions.rbac_yaml; change the list there, not here.\n"
    documents = rbac_objects(
        subject=user_subject(user), namespaces={namespace: secrets}, infrastructure=infrastructure
    )
    return header + yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True)


def rbac_objects(
    *, subject: Object, namespaces: Mapping[str, Sequence[str]], infrastructure: bool = False
) -> list[Object]:
    """Return the roles and bindings of ``rbac_yaml`` as objects, for any kind of subject.

    Args:
        subject: as a binding names it.
        namespaces: those with endpoints, and the Secrets of each whose keys may be looked at.
        infrastructure: as there.
    """
    documents = []
    for namespace, secrets in namespaces.items():
        rules = (*NAMESPACE_RULES, *(rule for rules in KIND_RULES.values() for rule in rules))
        if secrets:
            rules = (*rules, replace(SECRETS, names=tuple(sorted(secrets))))
        documents += [
            role(rules, name=ROLE, namespace=namespace),
            _binding("Role", name=ROLE, subject=subject, namespace=namespace),
        ]
    documents += [
        role(CLUSTER_RULES, name=CLUSTER_ROLE, namespace=None),
        _binding("ClusterRole", name=CLUSTER_ROLE, subject=subject, namespace=None),
    ]
    if infrastructure:
        documents += [
            role(INFRASTRUCTURE_RULES, name=INFRASTRUCTURE_ROLE, namespace=None),
            _binding("ClusterRole", name=INFRASTRUCTURE_ROLE, subject=subject, namespace=None),
        ]
    return documents


def user_subject(name: str) -> Object:
    """Return a user as a binding names it."""
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}


def role(rules: Iterable[Rule], *, name: str, namespace: str | None) -> Object:
    """Return rules as a Role, or as a ClusterRole when ``namespace`` is None."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": _metadata(name, namespace),
        "rules": [
            {
                "apiGroups": [rule.group],
                "resources": list(rule.resources),
                **({"resourceNames": list(rule.names)} if rule.names else {}),
                "verbs": list(rule.verbs),
            }
            for rule in rules
        ],
    }


def check_permissions(view: View, site: Site) -> list[Finding]:
    """Find the rules that the connection's user lacks, each printed as a role that is ready to apply."""
    scoped: list[tuple[Rule, str | None]] = [
        (rule, namespace) for namespace in _namespaces(site) for rule in _rules_in(site, namespace)
    ]
    scoped += [(rule, None) for rule in CLUSTER_RULES]
    if any("PersistentVolume" in one.kinds for one in site.endpoints):
        scoped.append((STATIC_VOLUMES, None))
    wanted = {(rule, where): _accesses(rule, where) for rule, where in scoped}
    allowed = can_i(view.cluster, [access for accesses in wanted.values() for access in accesses])
    findings = []
    for (rule, where), accesses in wanted.items():
        missing = [access for access in accesses if not allowed[access]]
        if missing:
            findings.append(_missing(rule, where, missing, user=view.user()))
    if findings:
        return findings
    about = ", ".join(f"namespace {name}" for name in _namespaces(site)) or "the whole cluster"
    reason = f"all {len(allowed)} permissions are there"
    return [Finding(check="permissions", severity="ok", about=about, reason=reason)]


def _namespaces(site: Site) -> list[str]:
    return sorted({one.namespace for one in site.endpoints})


def _rules_in(site: Site, namespace: str) -> tuple[Rule, ...]:
    """The rules that the endpoints of a namespace need there, each once."""
    here = [one for one in site.endpoints if one.namespace == namespace]
    names = tuple(sorted({secret.name for one in here for secret in one.secrets}))
    kinds = sorted({kind for one in here for kind in one.kinds})
    rules = [*NAMESPACE_RULES, *(rule for kind in kinds for rule in KIND_RULES.get(kind, ()))]
    return (*rules, replace(SECRETS, names=names)) if names else tuple(rules)


def rights_yaml(rules: Sequence[Rule], *, name: str, user: str | None, namespace: str | None = None) -> str:
    """Return rules as a role, bound to the user where its name is known, ready for ``kubectl apply -f -``."""
    documents = [role(rules, name=name, namespace=namespace)]
    if user:
        kind, subject = "Role" if namespace else "ClusterRole", user_subject(user)
        documents.append(_binding(kind, name=name, subject=subject, namespace=namespace))
    return yaml.safe_dump_all(documents, sort_keys=False).rstrip()


def apply_this(user: str | None) -> str:
    """The line above a role in a remedy."""
    return "kubectl apply -f - with this" + (":" if user else ", and bind it to the connection's user:")


def _missing(rule: Rule, namespace: str | None, missing: list[Access], *, user: str | None) -> Finding:
    # The whole rule and a name of its own: a role of the missing verbs alone would take back what an earlier one gave.
    name = f"{ROLE}-{rule.resources[0].replace('/', '-')}" + (f".{rule.group}" if rule.group else "")
    return Finding(
        check="permissions",
        severity="blocking" if rule.needed else "warning",
        about=f"namespace {namespace}" if namespace else "the whole cluster",
        reason=f"may not {', '.join(map(str, missing))} (needed for: {rule.why})",
        remedy=f"{apply_this(user)}\n" + rights_yaml([rule], name=name, user=user, namespace=namespace),
    )


def _accesses(rule: Rule, namespace: str | None) -> list[Access]:
    return [
        Access(
            verb=verb,
            group=rule.group,
            resource=resource.partition("/")[0],
            subresource=resource.partition("/")[2],
            namespace=namespace,
            name=name,
        )
        for resource in rule.resources
        for verb in rule.verbs
        for name in (rule.names or (None,))
    ]


def _binding(kind: str, *, name: str, subject: Object, namespace: str | None) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [dict(subject)],
    }


def _metadata(name: str, namespace: str | None) -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": {MANAGED_BY_LABEL: MANAGER}}
