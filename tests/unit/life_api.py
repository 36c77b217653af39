"""What the tests of an endpoint's life need: an API server in memory, a history, and Airflow's context."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG

from slipway.catalog.read import read_catalog
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.manifests.overrides import parse_overrides
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from slipway.releases.records import Release
from slipway.releases.store import History

ENDPOINT, NAMESPACE = "qwen3-tiny", "models"
PROBED = {
    "steps": [{"name": "health", "seconds": 0.25, "detail": "200"}],
    "ttft_seconds": 0.125,
    "answer": "a ramp",
    "served_names": [ENDPOINT],
}
Objects = dict[str, Any]
DISCOVERED = {
    "/apis/autoscaling/v2": ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    "/apis/gateway.networking.k8s.io/v1": ("httproutes", "HTTPRoute"),
}


class Api:
    """Objects as an API server keeps them, enough for what Slipway asks; time moves only when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.objects: dict[str, Objects] = {}
        self.writes: list[str] = []
        self.down: Callable[[str, str], int | None] = lambda method, path: None
        self.probe_message: Callable[[Objects], dict[str, Any]] = lambda pod: {"result": PROBED}
        self.sight: Objects = {"state": "serving", "seconds": 0.25, "ttft_seconds": 0.125}
        self.pod_phase = "Succeeded"
        self.gone: str | None = None
        self.configuration = SimpleNamespace(host="https://cluster.test", verify_ssl=True)
        self.version = 0
        self.room_for(pods=4)

    def room_for(self, *, pods: int) -> None:
        """Make the only node as large as so many pods of the tiny endpoint."""
        allocatable = {"cpu": f"{250 * pods}m", "memory": f"{3 * pods}Gi", "pods": "110"}
        status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
        self.node: Objects = {"metadata": {"name": "one"}, "spec": {}, "status": status}

    def delete_namespace(self, name: str) -> None:
        """Let a namespace be gone with all in it, and with it the rights that Slipway had there."""
        self.gone = name
        self.objects = {path: obj for path, obj in self.objects.items() if f"/namespaces/{name}/" not in path}

    def cluster(self) -> Cluster:
        return Cluster(api_client=self, patience=0)

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def found(self, kind: str, name: str) -> Objects | None:
        return next((obj for path, obj in self.objects.items() if path.endswith(f"/{kind}/{name}")), None)

    def call_api(self, path: str, method: str, *, query_params: Any = (), body: Any = None, **_: Any) -> Any:
        query, failure = dict(query_params or ()), self.down(method, path)
        dry = "dryRun" in query
        if self.gone and f"/namespaces/{self.gone}/" in path:
            status, content = 403, _status("Forbidden", f'User "slipway" cannot do this in "{self.gone}"')
        elif failure:
            status, content = failure, _status("ServiceUnavailable", "the server is away")
        else:
            status, content = getattr(self, f"_{method.lower()}")(path, body, query, dry)
        if method != "GET" and not dry and status < 300:
            self.writes.append(f"{method} {path}")
        return SimpleNamespace(
            status=status,
            data=content.encode() if isinstance(content, str) else json.dumps(content).encode(),
            headers={"Date": format_datetime(self.now, usegmt=True)},
        )

    def _get(self, path: str, _: Any, query: dict[str, Any], dry: bool) -> tuple[int, Any]:
        if path in self.objects:
            return 200, self.objects[path]
        if path.startswith("/api/v1/namespaces/") and path.count("/") == 4:
            name = path.rpartition("/")[2]
            found = {"metadata": {"name": name}}
            return (404, _status("NotFound", path)) if name == self.gone else (200, found)
        if path.endswith("/log"):
            return 200, "\n".join(self._sights(self.objects[path.removesuffix("/log")]))
        if path in DISCOVERED:
            plural, kind = DISCOVERED[path]
            return 200, {"resources": [{"name": plural, "kind": kind, "namespaced": True}]}
        if path.startswith("/apis/") and path.count("/") == 3 and "namespaces" not in path:
            return 404, _status("NotFound", path)
        if path == "/api/v1/nodes":
            return 200, {"items": [self.node], "metadata": {}}
        if path == "/api/v1/pods":
            return 200, {
                "items": [obj for key, obj in self.objects.items() if "/pods/" in key],
                "metadata": {},
            }
        if len(path.split("/namespaces/")[-1].split("/")) == 2:
            wanted = [part.partition("=") for part in query.get("labelSelector", "").split(",") if part]
            found = [
                obj
                for key, obj in self.objects.items()
                if key.rpartition("/")[0] == path and _matches(obj, wanted)
            ]
            return 200, {"items": found, "metadata": {}}
        return 404, _status("NotFound", path)

    def _sights(self, pod: Objects) -> list[str]:
        """The log of a pod that asks many endpoints."""
        environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
        asked = [one["endpoint"] for one in json.loads(environment["SLIPWAY_ORDER"])["endpoints"]]
        return ["sight: " + json.dumps({"endpoint": name, **self.sight}) for name in asked]

    def _post(self, path: str, body: Objects, _: Any, dry: bool) -> tuple[int, Any]:
        path = f"{path}/{body['metadata'].get('name', 'generated')}"
        if dry:
            return 201, body
        if path in self.objects:
            return 409, _status("AlreadyExists", path)
        stored = self._store(path, body)
        if path.split("/")[-2] == "pods":
            message = json.dumps(self.probe_message(stored))
            ended = {"exitCode": 0, "message": message}
            stored["status"] = {
                "phase": self.pod_phase,
                "containerStatuses": [{"name": "step", "state": {"terminated": ended}}],
            }
        return 201, stored

    def _put(self, path: str, body: Objects, _: Any, dry: bool) -> tuple[int, Any]:
        if body["metadata"]["resourceVersion"] != self.objects[path]["metadata"]["resourceVersion"]:
            return 409, _status("Conflict", path)
        return 200, self._store(path, body)

    def _patch(self, path: str, body: Objects, _: Any, dry: bool) -> tuple[int, Any]:
        if dry:
            return 200, body
        if path.endswith("/scale"):
            path = path.removesuffix("/scale")
            self.objects[path]["spec"]["replicas"] = body["spec"]["replicas"]
            return 200, self.objects[path]
        return 200, self._store(path, _merged(self.objects.get(path, {}), body))

    def _delete(self, path: str, body: Objects, _: Any, dry: bool) -> tuple[int, Any]:
        if path not in self.objects:
            return 404, _status("NotFound", path)
        metadata = self.objects[path]["metadata"]
        if metadata.get("finalizers"):
            metadata["deletionTimestamp"] = self.now.isoformat()
            return 200, self.objects[path]
        return 200, self.objects.pop(path)

    def _store(self, path: str, body: Objects) -> Objects:
        self.version += 1
        stored: Objects = json.loads(json.dumps(body))
        known = self.objects.get(path, {}).get("metadata", {})
        stored["metadata"] |= {
            "uid": known.get("uid") or str(uuid.uuid4()),
            "resourceVersion": str(self.version),
        }
        self.objects[path] = stored
        return stored


def _status(reason: str, message: str) -> Objects:
    return {"kind": "Status", "reason": reason, "message": message}


def _matches(obj: Objects, wanted: list[tuple[str, str, str]]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(key) == value if sign else key in labels for key, sign, value in wanted)


def _merged(old: Objects, new: Objects) -> Objects:
    both = {**old, **new}
    metadata = {**old.get("metadata", {}), **new.get("metadata", {})}
    notes = {**old.get("metadata", {}).get("annotations", {}), **metadata.get("annotations", {})}
    metadata["annotations"] = {key: value for key, value in notes.items() if value is not None}
    both["metadata"] = metadata
    if "spec" in old and "replicas" in old["spec"] and "replicas" not in new.get("spec", {}):
        both["spec"] = {**new["spec"], "replicas": old["spec"]["replicas"]}
    return both


@dataclass
class Told:
    """What tasks tell of assets, whichever alias they are of."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __getitem__(self, alias: Any) -> Told:
        return self

    def add(self, asset: Any, *, extra: dict[str, Any]) -> None:
        self.events.append((asset.uri, extra))


@dataclass
class Life:
    """One endpoint with its history, its cluster, and what Airflow knows of runs."""

    api: Api
    history: History
    runs: dict[str, str] = field(default_factory=dict)
    pushed: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def pend(
        self, run: str, *, endpoint: str = ENDPOINT, plan: Plan | None = None, **overrides: Any
    ) -> Release:
        """A pending release of a plan, with its lock not yet taken."""
        plan = plan or make_plan(read_catalog(), endpoint, parse_overrides(overrides))
        rendered = render(plan)
        return self.history.create_pending(
            endpoint=endpoint,
            run_id=run,
            cluster=plan.cluster,
            namespace=plan.namespace,
            plan=plan.model_dump(mode="json"),
            overrides=overrides,
            objects=rendered.to_bytes(),
            digest=rendered.digest,
            label=rendered.release,
            images=[plan.server.image],
            weights_source=plan.weights.source,
        )

    def lock(self, release: Release, *, seconds: int = 600) -> int:
        """Take the lock for a release's run."""
        fencing = lease.acquire(
            self.api.cluster(),
            namespace=NAMESPACE,
            endpoint_object=release.endpoint,
            holder=release.run_id,
            seconds=seconds,
        )
        assert fencing is not None
        if release.status == "pending":
            self.history.set_fencing(release.id, fencing)
        return fencing

    def apply(self, release: Release) -> None:
        """Put a release's objects into the cluster, as its apply and publish steps would."""
        from slipway.cluster.apply import apply
        from slipway.manifests.render import Rendered

        apply(self.api.cluster(), Rendered.from_bytes(release.objects).objects())

    def good(self, run: str, **overrides: Any) -> Release:
        """A release that serves."""
        release = self.pend(run, **overrides)
        self.apply(release)
        self.history.set_weights(release.id, source=release.weights_source, digest="sha256:abc")
        self.history.record_probe(release.id, through="published", result=PROBED)
        return self.history.mark_good(release.id)

    def holder(self, endpoint: str = ENDPOINT) -> str | None:
        """Who holds the endpoint's lock."""
        found = lease.holder_of(self.api.cluster(), namespace=NAMESPACE, endpoint_object=endpoint)
        return found.holder if found else None

    def context(self, run: str, **conf: Any) -> Any:
        """Airflow's context of a task of a run ``dag/run``."""
        dag_id, _, run_id = run.partition("/")
        dag_run = SimpleNamespace(
            dag_id=dag_id, run_id=run_id, conf=conf, triggering_user_name="ada", run_type="manual"
        )
        params = {name: None for name in ("endpoint", "reason", "to", "replicas", "confirm", "weights")}
        ti = SimpleNamespace(
            task_id="step",
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            get_dagrun_state=self._state,
        )
        return {
            "dag_run": dag_run,
            "run_id": run_id,
            "ti": ti,
            "outlet_events": Told(self.events),
            "dag": DAG(dag_id, schedule=None, params=params),
        }

    def _state(self, dag_id: str, run_id: str) -> str:
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType

        state = self.runs.get(f"{dag_id}/{run_id}")
        if state is None:
            detail = {"status_code": 404}
            raise AirflowRuntimeError(SimpleNamespace(error=ErrorType.API_SERVER_ERROR, detail=detail))  # type: ignore[arg-type]
        return state


def reference(release: Release) -> dict[str, Any]:
    """What the resolve step leaves to the others."""
    return {"release": release.id, "digest": release.digest}


def make_life(monkeypatch: Any, directory: Any) -> Life:
    """A life whose steps find the API server in memory and a history of their own."""
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{directory}/history.db")
    monkeypatch.setenv("SLIPWAY_ARTIFACTS", str(directory / "artifacts"))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a key")
    life = Life(api=Api(), history=History.open())
    for module in ("steps", "watching", "rollout", "returning"):
        monkeypatch.setattr(f"slipway.operators.{module}.cluster_of", lambda connection: life.api.cluster())
    return life
