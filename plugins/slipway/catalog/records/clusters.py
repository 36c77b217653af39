"""Clusters: one Kubernetes API each, what it offers to endpoints, and what it consists of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from slipway.catalog.records.accelerators import AcceleratorChange
from slipway.catalog.records.fields import (
    AccessMode,
    Annotations,
    ConnectionId,
    HostName,
    ImagePrefix,
    Labels,
    Name,
    Namespace,
    ObjectName,
    PodSecurity,
    Port,
    PositiveQuantity,
    Record,
    Text,
)
from slipway.catalog.records.setup import Setup


def _is_page_of_pods(address: str) -> str:
    try:
        address.format(namespace="n", pod="p")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError("may have {namespace} and {pod}, and no other braces") from error
    return address


PodPage = Annotated[
    str, Field(pattern=r"^https?://[^\s]+$", max_length=500), AfterValidator(_is_page_of_pods)
]


class Storage(Record):
    """Where a cluster keeps weights.

    Attributes:
        read_rate: bytes a second that a serving pod reads from it, as a quantity; the budget for a start is
            computed from it and the model's size, so the lowest rate that was measured belongs here.
    """

    storage_class: ObjectName
    access_mode: AccessMode = "ReadWriteMany"
    read_rate: PositiveQuantity = "100Mi"


class ObjectStore(Record):
    """The S3 service that a cluster's pods fetch from.

    Attributes:
        endpoint: its URL as pods reach it; None for AWS itself.
        secret: the Secret in the endpoint's namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """

    endpoint: Text | None = None
    region: Text = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    secret: ObjectName


class OssStore(Record):
    """Alibaba Cloud's object storage, for Fluid data sets and static volumes.

    Attributes:
        endpoint: such as ``oss-cn-hangzhou-internal.aliyuncs.com``.
        secret: the Secret in the endpoint's namespace with the keys ``akId`` and ``akSecret``.
    """

    endpoint: HostName
    secret: ObjectName = "oss-secret"  # noqa: S105 - the name of a Secret


class Listener(Record):
    """One listener of a Gateway.

    Attributes:
        certificate: the Secret with the certificate; None for plain HTTP.
        certificate_namespace: where that Secret is, when not beside the Gateway; it then gets a ReferenceGrant.
    """

    name: Name
    port: Port
    host: HostName | None = None
    certificate: ObjectName | None = None
    certificate_namespace: Namespace | None = None


class ControllerFilter(Record):
    """A filter that only this Gateway's controller knows, by reference, in the namespace of each route.

    Traefik: group ``traefik.io``, kind ``Middleware``. Envoy Gateway: ``gateway.envoyproxy.io``, ``HTTPRouteFilter``.
    """

    group: HostName
    kind: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
    name: ObjectName


class Gateway(Record):
    """The Gateway that an endpoint's HTTPRoute hangs on.

    Attributes:
        gateway_class: the GatewayClass; with ``listeners`` it makes the Gateway part of what Slipway prepares.
        section: the listener that routes attach to; None for every one.
        listeners: empty when somebody else made the Gateway.
        cors_filter: what answers for routes with an ``allow_origin``. None sets CORS headers on the server's own
            answers, which is all that version 1.2 of the API can do, and enough for servers that answer a browser's
            preflights themselves (SGLang does, vLLM is told to). For one that does not, name the controller's filter.
        authority: the ConfigMap of each endpoint's namespace whose ``ca.crt`` signs the listeners' certificates, for
            the probe; None where a public authority does.
    """

    name: ObjectName
    namespace: Namespace
    section: Name | None = None
    gateway_class: ObjectName | None = None
    listeners: list[Listener] = []
    cors_filter: ControllerFilter | None = None
    authority: ObjectName | None = None


class IngressClass(Record):
    """The ingress controller of a cluster; ``annotations`` go onto every Ingress."""

    ingress_class: ObjectName = "nginx"
    annotations: Annotations = {}
    tls_secret: ObjectName | None = None


class LoadBalancers(Record):
    """What makes a cluster give a LoadBalancer Service an address, outside and inside its own network."""

    load_balancer_class: Text | None = None
    annotations: Annotations = {}
    public_annotations: Annotations = {}
    private_annotations: Annotations = {}


class Monitoring(Record):
    """How a cluster collects metrics.

    Attributes:
        prometheus: the URL that KEDA asks; None without KEDA.
        service_monitor_labels: what its Prometheus selects ServiceMonitors by.
        metrics_adapter: whether pods' Prometheus metrics reach the HorizontalPodAutoscaler (prometheus-adapter).
    """

    prometheus: Text | None = None
    service_monitor_labels: Labels = {}
    metrics_adapter: bool = False


class Cluster(Record):
    """One Kubernetes API and what it offers.

    Attributes:
        connection: the Airflow connection (type kubernetes) that DAGs use.
        context: the kubeconfig context that the terminal uses; None for the current one.
        registry: the prefix of images that this project builds.
        registry_rewrite: prefixes of images that are pulled from elsewhere here; the longest match counts.
        pod_page: the address of a pod's page in the cluster's own console, with ``{namespace}`` and ``{pod}``; tasks
            link to it.
        repositories: the prefixes from which an override may take an image.
        image_pull_policy: Never where images are imported into the node instead of pulled.
        accelerators: those on offer, each with what is otherwise here than in its record (``{}`` for nothing).
        pod_security: the level that the namespaces of endpoints enforce; a namespace of its own level is in
            ``setup.namespaces``.
    """

    name: Name
    display_name: dict[str, Text] = {}
    connection: ConnectionId
    context: Text | None = None
    registry: ImagePrefix
    registry_rewrite: dict[ImagePrefix, ImagePrefix] = {}
    repositories: list[ImagePrefix] = []
    pod_page: PodPage | None = None
    image_pull_policy: Literal["Never", "IfNotPresent", "Always"] = "IfNotPresent"
    image_pull_secrets: list[ObjectName] = []
    storage: Storage
    object_store: ObjectStore | None = None
    oss: OssStore | None = None
    accelerators: dict[Name, AcceleratorChange] = Field(min_length=1)
    pod_security: PodSecurity = "restricted"
    pod_labels: Labels = {}
    pod_annotations: Annotations = {}
    gateway: Gateway | None = None
    ingress: IngressClass | None = None
    load_balancers: LoadBalancers | None = None
    monitoring: Monitoring | None = None
    setup: Setup = Setup()

    def level_of(self, namespace: str) -> PodSecurity:
        """The Pod Security level that a namespace of this cluster enforces."""
        return next(
            (one.pod_security for one in self.setup.namespaces if one.name == namespace), self.pod_security
        )
