"""What a cluster consists of besides endpoints, and what has to be there before endpoints can be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.catalog.records.fields import (
    ConnectionId,
    HostName,
    HttpPath,
    KubernetesObject,
    Labels,
    Namespace,
    ObjectName,
    Origin,
    PodSecurity,
    Port,
    Record,
    Text,
    Version,
)

# Below the packages directory: neither absolute nor upwards.
PackagePath = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*([./][A-Za-z0-9_+-]+)*$", max_length=512)
]


class NamespaceSetup(Record):
    """A namespace that belongs to the cluster's set-up."""

    name: Namespace
    pod_security: PodSecurity = "restricted"
    labels: Labels = {}


class AddressPool(Record):
    """A MetalLB pool of addresses, announced in the local network."""

    name: ObjectName
    addresses: list[Annotated[str, Field(pattern=r"^[0-9a-fA-F.:/-]{2,80}$")]] = Field(min_length=1)
    automatic: bool = True


class NfsExport(Record):
    """An NFS export that csi-driver-nfs makes volumes on, as a storage class."""

    storage_class: ObjectName
    server: HostName
    share: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]*$", max_length=1024)]
    default: bool = False


class Chart(Record):
    """A Helm release of the cluster's set-up.

    Attributes:
        chart: an OCI reference, or ``repository/chart`` with ``repository`` set.
        package: a ``.tgz`` of just this chart in the packages directory (``SLIPWAY_PACKAGES``), for clusters that
            reach no repository; then it is installed and nothing is fetched.
        values: what is different from the chart's own values.
        present: false removes the release.
        timeout_seconds: how long its pods may take to become ready before the release is taken back.
    """

    name: ObjectName
    namespace: Namespace
    chart: Text
    repository: Text | None = None
    version: Version
    package: PackagePath | None = None
    values: KubernetesObject = {}
    present: bool = True
    timeout_seconds: Annotated[int, Field(ge=10, le=1800)] = 600


class GatewayApi(Record):
    """The Gateway API's custom resource definitions.

    Attributes:
        version: of the bundle that ``file`` holds; a newer one in the cluster is left as it is.
        file: in the packages directory: a YAML file (a release's ``standard-install.yaml``), a directory of them, or
            a ``.tgz``.
    """

    version: Version
    file: PackagePath


class NodeChoice(Record):
    """The nodes that get ``node_labels``: those of these names, and those with all of these labels."""

    names: list[ObjectName] = []
    labels: Labels = {}


class SecretSource(Record):
    """A Secret whose values an Airflow connection holds.

    Attributes:
        connection: the connection's id. A terminal, which has no Airflow, reads ``AIRFLOW_CONN_<ID>``.
        keys: for each key of the Secret, which part of the connection it is: ``login``, ``password``, ``host``,
            ``schema``, ``port``, or ``extra.NAME``.
    """

    name: ObjectName
    namespace: Namespace
    type: Literal["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson"] = "Opaque"
    connection: ConnectionId
    keys: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")],
        Annotated[str, Field(pattern=r"^(login|password|host|schema|port|extra\.[A-Za-z0-9_.-]{1,100})$")],
    ] = Field(min_length=1)


class Rights(Record):
    """Who gets the rights that Slipway's jobs need, as the cluster knows them.

    Attributes:
        namespace: of a ServiceAccount; other kinds have none.
    """

    kind: Literal["User", "Group", "ServiceAccount"] = "User"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9:@._/-]{0,252}$")]
    namespace: Namespace | None = None


class Route(Record):
    """A route of the cluster's own, to a Service that is not an endpoint's (a model gateway, say).

    Attributes:
        service_namespace: where the Service is, when not beside the route; it then gets a ReferenceGrant there.
    """

    name: ObjectName
    namespace: Namespace
    path: HttpPath = "/v1"
    host: HostName | None = None
    service: ObjectName
    service_namespace: Namespace | None = None
    port: Port
    allow_origin: Origin | None = None
    timeout_seconds: Annotated[int, Field(gt=0, le=86_400)] = 600


class HydraApi(Record):
    """How the Hydra that this cluster belongs to is asked for its records.

    Attributes:
        url: of its console, below which its API is: ``https://console.example.com``.
        connection: an Airflow connection whose password is an access key of somebody who may read models. A terminal,
            which has no Airflow, reads ``AIRFLOW_CONN_<ID>``.
    """

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$")]
    connection: ConnectionId


class Setup(Record):
    """What a cluster consists of besides endpoints: rendered by ``slipway render --cluster``, made by ``prepare``.

    Attributes:
        connection: the Airflow connection of somebody who may set the cluster up; None for the cluster's own, whose
            user usually may not.
        context: the same for the terminal; None for the cluster's own.
        node_labels: labels that nodes need (``gpu: "on"`` for HAMi).
        labelled_nodes: which nodes get them; with none named, ``prepare`` asks for it.
        rights: who gets the rights that Slipway's jobs need; None where somebody else gives them.
        hydra: how Hydra is asked for models and vendors; None where nobody asks it.
    """

    connection: ConnectionId | None = None
    context: Text | None = None
    hydra: HydraApi | None = None
    gateway_api: GatewayApi | None = None
    namespaces: list[NamespaceSetup] = []
    rights: Rights | None = None
    secrets: list[SecretSource] = []
    node_labels: Labels = {}
    labelled_nodes: NodeChoice = NodeChoice()
    address_pools: list[AddressPool] = []
    address_pool_namespace: Namespace = "metallb-system"
    nfs: list[NfsExport] = []
    charts: list[Chart] = []
    routes: list[Route] = []
