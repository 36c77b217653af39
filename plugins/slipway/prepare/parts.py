"""The objects that no template has: rights, Secrets, labels of nodes."""

from __future__ import annotations

import base64

from slipway.catalog.records import SecretSource
from slipway.checks.permissions import rbac_objects
from slipway.checks.plan import site_of
from slipway.cluster.objects import Object, labels_of
from slipway.errors import UsageError
from slipway.manifests.cluster_objects import LABELS
from slipway.prepare.target import Target


def rights(target: Target) -> tuple[list[Object], str]:
    """Return the roles and bindings that Slipway's jobs need in this cluster, for all its endpoints' namespaces."""
    wanted = target.record.setup.rights
    assert wanted is not None  # the step is only there with it
    subject = {"kind": wanted.kind, "name": wanted.name}
    if wanted.kind == "ServiceAccount":
        subject["namespace"] = wanted.namespace or "default"
    else:
        subject["apiGroup"] = "rbac.authorization.k8s.io"
    site = site_of(target.catalog, target.record.name, include=target.include)
    namespaces: dict[str, set[str]] = {}
    for endpoint in site.endpoints:
        namespaces.setdefault(endpoint.namespace, set()).update(one.name for one in endpoint.secrets)
    listed = {name: sorted(secrets) for name, secrets in sorted(namespaces.items())}
    left = f"endpoints without a plan are left out: {', '.join(site.unplanned)}" if site.unplanned else ""
    return rbac_objects(subject=subject, namespaces=listed, infrastructure=True), left


def secrets(target: Target) -> tuple[list[Object], str]:
    """Return the Secrets of the record, with values from their connections.

    Raises:
        UsageError: a connection is not there, or lacks what a key is to have.
    """
    return [_secret(target, one) for one in target.record.setup.secrets], ""


def _secret(target: Target, wanted: SecretSource) -> Object:
    parts = target.credentials(wanted.connection)
    lacking = sorted({part for part in wanted.keys.values() if not parts.get(part)})
    if lacking:
        raise UsageError(
            "the connection lacks what the Secret needs",
            about=f"connection {wanted.connection} for Secret {wanted.namespace}/{wanted.name}",
            why=f"it has no {', no '.join(lacking)}",
            remedy=f"Add it to the connection; it has: {', '.join(sorted(parts)) or 'nothing'}",
        )
    data = {key: base64.b64encode(parts[part].encode()).decode() for key, part in wanted.keys.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": dict(LABELS)},
        "type": wanted.type,
        "data": data,
    }


def labelled_nodes(target: Target) -> tuple[list[Object], str]:
    """Return the chosen nodes with the labels that they need, and nothing else of them.

    Raises:
        UsageError: no node is chosen, or one of that name is not there: an apply would make it up.
    """
    setup = target.record.setup
    choice, live = setup.labelled_nodes, target.cluster.list(api_version="v1", kind="Node")
    there = {one["metadata"]["name"]: labels_of(one) for one in live}
    told = ", ".join(f"{key}={value}" for key, value in setup.node_labels.items())
    if not choice.names and not choice.labels:
        raise UsageError(
            "nobody has said which nodes get the labels",
            about=told,
            remedy="Name them in the cluster's record: setup.labelled_nodes.names, or .labels for those that have "
            f"these. There are: {', '.join(sorted(there)[:20]) or 'none'}",
        )
    unknown = [name for name in choice.names if name not in there]
    if unknown:
        raise UsageError(
            "there is no such node",
            about=", ".join(unknown),
            remedy=f"There are: {', '.join(sorted(there)[:20])}",
        )
    named = set(choice.names)
    if choice.labels:
        named |= {name for name, labels in there.items() if choice.labels.items() <= labels.items()}
    if not named:
        raise UsageError(
            "no node has the labels by which nodes are chosen",
            about=", ".join(f"{key}={value}" for key, value in choice.labels.items()),
            remedy="Correct setup.labelled_nodes.labels, or name the nodes",
        )
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(setup.node_labels)}}
        for name in sorted(named)
    ]
    return nodes, ""
