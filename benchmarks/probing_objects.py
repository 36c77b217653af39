"""A thousand endpoints in a cluster that has room for none: real objects, and one small server that answers for all."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import yaml

from slipway.catalog.read import read_catalog
from slipway.cluster.client import Cluster
from slipway.cluster.objects import ENDPOINT_LABEL, Object, labels_of
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render
from slipway.releases.store import History
from tests.e2e import small
from tests.unit import small_runtime

NAMESPACE, SERVER = "slipway-bench-probing", "small-server"
SELECTOR = {"slipway.io/bench": "probing"}
NOBODY = "nobody"
"""The scheduler of the endpoints' pods; there is none of that name."""
LONGEST = 300.0

_TAIL = """
import os, signal, time

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
KEY, NAME = os.environ["SMALL_API_KEY"], "small-server"


class OfMany(Handler):
    runtime, hanging = Runtime(), 0

    def do_PUT(self):
        OfMany.hanging = int(self.path[1:])
        self.send_response(200)
        self.end_headers()

    def reply(self, body):
        number = self.headers["Host"].partition(".")[0].rpartition("-")[2]
        while "svc" in self.headers["Host"] and int(number) < OfMany.hanging:
            time.sleep(1)
        super().reply(body)


ThreadingHTTPServer.request_queue_size = 1024
ThreadingHTTPServer(("", 8000), OfMany).serve_forever()
"""


def released_ones(history: History, include: Path, names: list[str]) -> tuple[list[Rendered], str]:
    """A good release of each, planned from records of the catalog; and the tools image."""
    records = small.records()
    endpoint = {**records.pop(f"endpoints/{small.ENDPOINTS[0]}"), "namespace": NAMESPACE}
    records = {name: record for name, record in records.items() if not name.startswith("endpoints/")}
    records |= {f"endpoints/{name}": endpoint for name in names}
    for name, fields in records.items():
        record = {"name": Path(name).name, **fields}
        (include / "catalog" / f"{name}.yaml").write_text(yaml.safe_dump(record, sort_keys=False), "utf-8")
    known, released = read_catalog(include), list[Rendered]()
    for name in names:
        plan = make_plan(known, name)
        rendered = render(plan, include=include)
        release = history.create_pending(
            endpoint=name,
            run_id=f"benchmark/{name}",
            cluster=plan.cluster,
            namespace=plan.namespace,
            plan=plan.model_dump(mode="json"),
            overrides={},
            objects=rendered.to_bytes(),
            digest=rendered.digest,
            label=rendered.release,
            images=[plan.server.image],
            weights_source=plan.weights.source,
        )
        history.mark_good(release.id)
        released.append(rendered)
    return released, plan.tools_image


def make_objects(cluster: Cluster, released: list[Rendered], *, image: str) -> Callable[[int], None]:
    """Make all objects of the endpoints, and the server that their Services lead to; returns what makes so many hang.

    Args:
        cluster: as its administrator sees it.
        released: the endpoints' objects as they were released.
        image: the tools image.
    """
    live = {json.dumps(obj): obj for one in released for obj in map(_simulated, one.objects())}
    cluster.apply(_server(image))
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cluster.apply, live.values()))
    addresses = _published(cluster)

    def hang(count: int) -> None:
        httpx.put(f"http://{addresses[0]}:8000/{count}", timeout=10, trust_env=False).raise_for_status()

    _until(lambda: _pods(cluster) >= len(released) + 1, "the endpoints' pods")
    for address in addresses:
        _until(lambda to=address: _answers(to), "the way to the server")  # type: ignore[misc]
    print(f"{len(live)} objects are there after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return hang


def _simulated(obj: Object) -> Object:
    """An object of a release as it is applied here: no scheduler takes its pods, clients get to the server."""
    copy: Object = json.loads(json.dumps(obj))
    if obj["kind"] == "StatefulSet":
        copy["spec"]["template"]["spec"]["schedulerName"] = NOBODY
    elif obj["kind"] == "Service" and obj["metadata"]["name"] == labels_of(obj)[ENDPOINT_LABEL]:
        copy["spec"]["selector"] = SELECTOR
    return copy


def _server(image: str) -> Object:
    """The pod that answers for all, with the key of the sandbox's endpoints."""
    code = Path(small_runtime.__file__).read_text(encoding="utf-8") + _TAIL
    key = {"secretKeyRef": {"name": "endpoint-api-key", "key": "api-key"}}
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", code],
        "env": [{"name": "SMALL_API_KEY", "valueFrom": key}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": SERVER, "namespace": NAMESPACE, "labels": SELECTOR},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


def _published(cluster: Cluster) -> list[str]:
    """The addresses of the Services that clients use."""
    services = cluster.list(api_version="v1", kind="Service", namespace=NAMESPACE)
    return [one["spec"]["clusterIP"] for one in services if one["spec"].get("selector") == SELECTOR]


def _pods(cluster: Cluster) -> int:
    return len(cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE))


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}:8000/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONGEST
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come")
        time.sleep(0.5)
