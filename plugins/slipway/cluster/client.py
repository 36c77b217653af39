"""A cluster: the verbs that Slipway needs over plain dicts, each request with a timeout and bounded patience."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from slipway.cluster.connection import PATIENCE_SECONDS, Connection, SyncApiClient, client_from_kubeconfig
from slipway.cluster.faults import ApiError, UnknownKindError
from slipway.cluster.logs import log_request, log_text
from slipway.cluster.objects import (
    KNOWN_KINDS,
    MANAGER,
    Object,
    Ref,
    group_path,
    object_path,
    ref_of,
    selector,
)
from slipway.cluster.transport import APPLY_PATCH, MERGE_PATCH, Answer, Request

_PAGE = 500


class Cluster:
    """One Kubernetes API.

    Safe to use from several threads. Objects are dicts as in YAML. What does not exist is None, not an error;
    everything else that fails is a ``ClusterError`` with the server's own words.

    Args:
        api_client: a configured client; its certificates must be verified.
        patience: for how many seconds a request is tried again while the server is away or overloaded. An API
            server that restarts is back within about ten.
    """

    def __init__(self, *, api_client: SyncApiClient, patience: float = PATIENCE_SECONDS) -> None:
        self._connection = Connection(api_client=api_client, patience=patience)
        self._discovered: dict[str, dict[str, tuple[str, bool]]] = {}

    @classmethod
    def from_kubeconfig(
        cls, path: str | Path, *, context: str | None = None, patience: float = PATIENCE_SECONDS
    ) -> Cluster:
        """Connect as a kubeconfig says; ``context`` None takes its current one.

        Raises:
            ClusterError: the file cannot be used; nothing is sent to the server here.
        """
        return cls(api_client=client_from_kubeconfig(path, context=context), patience=patience)

    @classmethod
    def from_api_client(cls, api_client: SyncApiClient, *, patience: float = PATIENCE_SECONDS) -> Cluster:
        """Use a client that is there already, such as the one of Airflow's ``KubernetesHook``."""
        return cls(api_client=api_client, patience=patience)

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self._connection.server

    def client_settings(self) -> tuple[Any, dict[str, str]]:
        """The client's configuration and headers, for a program that has to act as the same user."""
        return self._connection.settings()

    # -- requests
    # ---------------------------------------------------------------------------------------------

    def send(self, request: Request) -> Answer:
        """Send a request, again and again while the fault is transient and patience lasts.

        Raises:
            ApiError: the server refused it.
            UnreachableError: the server gave no answer.
        """
        return self._connection.send(request)

    # -- kinds
    # ------------------------------------------------------------------------------------------------

    def path_of(self, ref: Ref, *, subresource: str | None = None, collection: bool = False) -> str:
        """Return an object's path; kinds that Slipway doesn't know are asked from the server once.

        Raises:
            UnknownKindError: the cluster has no such kind.
        """
        plural, namespaced = self._kind(ref.apiVersion, ref.kind)
        return object_path(
            api_version=ref.apiVersion,
            plural=plural,
            namespace=ref.namespace if namespaced else None,
            name=None if collection else ref.name,
            subresource=subresource,
        )

    def _kind(self, api_version: str, kind: str) -> tuple[str, bool]:
        known = KNOWN_KINDS.get((api_version, kind)) or self._discovered.get(api_version, {}).get(kind)
        if known is None:  # also when it was looked up before: a CRD may have come since
            self._discovered[api_version] = self._discover(api_version)
            known = self._discovered[api_version].get(kind)
        if known is None:
            raise UnknownKindError(
                "the cluster has no such kind",
                about=f"{kind} in {api_version}",
                why="its API is not installed, or has another version there",
                remedy="Look with: kubectl api-resources; install the custom resource definition first",
            )
        return known

    def _discover(self, api_version: str) -> dict[str, tuple[str, bool]]:
        answer = self.send(
            Request(
                method="GET",
                path=group_path(api_version),
                what="look up the kinds of an API",
                about=api_version,
                accept=frozenset({404}),
            )
        )
        if answer.status == 404:
            return {}
        resources = answer.json().get("resources") or []
        return {r["kind"]: (r["name"], bool(r["namespaced"])) for r in resources if "/" not in r["name"]}

    # -- verbs
    # ------------------------------------------------------------------------------------------------

    def get(self, *, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object, or None when it isn't there."""
        ref = Ref(apiVersion=api_version, kind=kind, namespace=namespace, name=name)
        request = Request(
            method="GET",
            path=self.path_of(ref),
            what="read an object",
            about=str(ref),
            accept=frozenset({404}),
        )
        answer = self.send(request)
        return None if answer.status == 404 else dict(answer.json())

    def list(
        self,
        *,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        field_selector: str = "",
    ) -> list[Object]:
        """Return all objects of a kind, in one namespace or, with None, in the whole cluster.

        Read page by page; when a page's snapshot has expired on the server (410) the list starts again, once.
        """
        ref = Ref(apiVersion=api_version, kind=kind, namespace=namespace, name="")
        request = Request(
            method="GET",
            path=self.path_of(ref, collection=True),
            what="list objects",
            about=f"{kind} in {namespace}" if namespace else kind,
            query={
                "limit": _PAGE,
                **({"labelSelector": selector(labels)} if labels else {}),
                **({"fieldSelector": field_selector} if field_selector else {}),
            },
        )
        try:
            items = _pages(self, request)
        except ApiError as error:
            if error.status != 410:
                raise
            items = _pages(self, request)
        # Items of a list carry neither kind nor apiVersion; everything that takes an object expects both.
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def apply(
        self, obj: Object, *, dry_run: bool = False, force: bool = False, manager: str = MANAGER
    ) -> Object:
        """Apply an object on the server, creating it where it isn't there.

        Unknown and duplicate fields are refused (strict validation). A field that another manager holds with
        another value is a conflict (ApiError 409), unless ``force`` takes it over.
        """
        ref = ref_of(obj)
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": "true" if force else "false"}
        return self._write(
            "PATCH", ref, obj, content_type=APPLY_PATCH, query=query, dry_run=dry_run, what="apply"
        )

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Create an object; ApiError 409 when it is there. ``generateName`` in place of a name is allowed.

        Not sent again when the connection broke in the middle: it may have been created, and the caller knows
        best how to look.
        """
        metadata = obj["metadata"]
        ref = Ref(
            apiVersion=obj["apiVersion"],
            kind=obj["kind"],
            namespace=metadata.get("namespace"),
            name=metadata.get("name") or metadata.get("generateName", ""),
        )
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        return self._write("POST", ref, obj, query=query, dry_run=dry_run, what="create")

    def replace(self, obj: Object) -> Object:
        """Write a whole object; 409 if it carries a resourceVersion and somebody wrote in between."""
        return self._write("PUT", ref_of(obj), obj, query={"fieldManager": MANAGER}, what="write")

    def patch(
        self, ref: Ref, changes: Object, *, subresource: str | None = None, manager: str = MANAGER
    ) -> Object:
        """Merge changes into an object (JSON merge patch: null removes, lists are replaced whole)."""
        return self._write(
            "PATCH",
            ref,
            changes,
            content_type=MERGE_PATCH,
            query={"fieldManager": manager},
            what="change",
            subresource=subresource,
        )

    def _write(
        self,
        method: str,
        ref: Ref,
        body: Object,
        *,
        what: str,
        query: Mapping[str, str],
        content_type: str = "application/json",
        dry_run: bool = False,
        subresource: str | None = None,
    ) -> Object:
        request = Request(
            method=method,
            path=self.path_of(ref, subresource=subresource, collection=method == "POST"),
            what=f"{what} an object" if not dry_run else f"{what} an object (dry run)",
            about=str(ref),
            query={**query, "dryRun": "All"} if dry_run else query,
            body=body,
            content_type=content_type,
            repeatable=dry_run or method != "POST",
        )
        return dict(self.send(request).json())

    def scale(self, ref: Ref, *, replicas: int) -> None:
        """Set the replicas of a workload through its scale subresource, as autoscalers do.

        The field then belongs to another manager than an apply's, so no later apply takes it back.
        """
        self.patch(ref, {"spec": {"replicas": replicas}}, subresource="scale", manager=f"{MANAGER}-scale")

    def delete(
        self,
        ref: Ref,
        *,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> bool:
        """Delete an object without waiting for its end.

        Args:
            ref: the object.
            propagation: what becomes of the objects that it owns.
            uid: delete only this incarnation; an object of the same name made since is left alone (ApiError
            409).
            grace_seconds: for pods: seconds until they are killed.

        Returns:
            False when it wasn't there.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        request = Request(
            method="DELETE",
            path=self.path_of(ref),
            what="delete an object",
            about=str(ref),
            body=options,
            accept=frozenset({404}),
        )
        return self.send(request).status != 404

    def logs(
        self,
        *,
        namespace: str,
        pod: str,
        container: str | None = None,
        previous: bool = False,
        tail: int = 100,
    ) -> str:
        """Return the last lines of a container's log; "" when there is none (never started, or gone)."""
        answer = self.send(log_request(namespace, pod, container=container, previous=previous, tail=tail))
        return log_text(answer)

    def version(self) -> str:
        """Return the server's version, for example ``v1.34.4``."""
        answer = self.send(Request(method="GET", path="/version", what="read the version", about=self.server))
        return str(answer.json().get("gitVersion", ""))


def _pages(cluster: Cluster, request: Request) -> list[Object]:
    items: list[Object] = []
    query = dict(request.query)
    while True:
        page = cluster.send(replace(request, query=query)).json()
        items += page.get("items") or []
        more = page.get("metadata", {}).get("continue")
        if not more:
            return items
        query["continue"] = more
