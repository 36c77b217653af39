"""A small server behind the sandbox's Gateway: published as Slipway publishes an endpoint, by the same template."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sandbox import settings, traefik
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.manifests.render import render_one
from slipway.operators.entrance import why_not_taken

API = "gateway.networking.k8s.io/v1"
PORT = 8000
SETTLE_SECONDS = 90

# Answers with what it was asked; says that any page may call, as a server does that allows everybody by itself;
# streams a second piece only when somebody else has asked for it.
SERVER = """
import json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

go = threading.Event()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/v1/go":
            go.set()
        self.answer(200, {"host": self.headers["Host"], "path": self.path})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not asked.get("stream"):
            self.answer(200, {"authorization": self.headers["Authorization"], "asked": asked})
            return
        # A model computes first. Proxies in Go may break off an answer that begins before they have seen the request's
        # end (golang/go#40747).
        time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        go.clear()
        self.piece("data: one\\n\\n")
        self.piece("data: %s\\n\\n" % ("two" if go.wait(60) else "nobody asked"))
        self.wfile.write(b"0\\r\\n\\r\\n")

    def do_OPTIONS(self):
        self.answer(PREFLIGHT, {})

    def piece(self, text):
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(text), text.encode()))
        self.wfile.flush()

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Published:
    """A server that clients outside reach.

    Attributes:
        host: the name that they call it by.
        address: of the Gateway.
    """

    namespace: str
    name: str
    host: str
    address: str

    def client(self, scheme: str = "http", *, host: str | None = None, trusted: bool = True) -> httpx.Client:
        """A client outside that needs no DNS: it connects to the address and asks for the name."""
        context = ssl.create_default_context(
            cafile=str(settings.load(recorded=True).pki / "ca.crt") if trusted else None
        )
        named = host or self.host

        def ask_for_the_name(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = named

        return httpx.Client(
            base_url=f"{scheme}://{self.address}",
            headers={"Host": named},
            verify=context,
            trust_env=False,
            timeout=30,
            event_hooks={"request": [ask_for_the_name]},
        )


def make_server(
    cluster: Cluster, deployment: Callable[..., Object], *, namespace: str, name: str, preflight: int = 200
) -> None:
    """A pod and its Service; ``preflight`` is the status that it gives browsers that ask whether they may call."""
    code = SERVER.replace("PREFLIGHT", str(preflight))
    made = deployment(name, code, namespace=namespace, memory="96Mi")
    made["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {
        "httpGet": {"path": "/v1/models", "port": PORT},
        "periodSeconds": 1,
    }
    cluster.create(made)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"slipway.io/endpoint": name}, "ports": [{"name": "http", "port": PORT}]},
    }
    cluster.create(service)


def make_route(
    *, namespace: str, name: str, service: str, host: str, allow_origin: str | None = None, **more: Any
) -> Object:
    """An HTTPRoute on the sandbox's Gateway, by Slipway's own template."""
    route = {
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "slipway"},
        "gateway": traefik.GATEWAY,
        "gateway_namespace": settings.SYSTEM_NAMESPACE,
        "section": None,
        "host": host,
        "path": "/v1",
        "allow_origin": allow_origin,
        "cors_filter": None,
        "timeout_seconds": 600,
        "service": service,
        "service_namespace": None,
        "port": PORT,
    }
    return render_one("http-route.yaml.j2", route={**route, **more})


def publish(
    cluster: Cluster, *, namespace: str, service: str, allow_origin: str | None = None, **more: Any
) -> Published:
    """Make a route to a Service under a name of its own, and wait until it leads there."""
    name = f"{service}-{secrets.token_hex(3)}"
    host = f"{name}.{traefik.DOMAIN}"
    route = make_route(
        namespace=namespace, name=name, service=service, host=host, allow_origin=allow_origin, **more
    )
    cluster.create(route)
    published = Published(namespace=namespace, name=name, host=host, address=gateway_address(cluster))
    settle(cluster, published)
    return published


def settle(cluster: Cluster, published: Published) -> None:
    """Wait until the controller has taken the route and a request comes through."""
    deadline = time.monotonic() + SETTLE_SECONDS
    why: str | None = ""
    with published.client() as client:
        while True:
            route = cluster.get(
                api_version=API, kind="HTTPRoute", name=published.name, namespace=published.namespace
            )
            assert route is not None
            why = why_not_taken(route, gateway=traefik.GATEWAY)
            if why is None and client.get("/v1/models").is_success:
                return
            assert time.monotonic() < deadline, why or "the Gateway does not lead to the server"
            time.sleep(0.3)


def gateway_address(cluster: Cluster) -> str:
    """The address that clients of the sandbox's Gateway use."""
    found = cluster.get(
        api_version=API, kind="Gateway", name=traefik.GATEWAY, namespace=settings.SYSTEM_NAMESPACE
    )
    assert found is not None, "the sandbox has no Gateway: `make up` makes it"
    [address] = [one["value"] for one in found["status"]["addresses"]]
    return str(address)


def authority() -> Path:
    """The certificate of the authority that signed the Gateway's."""
    return settings.load(recorded=True).pki / "ca.crt"


def until(true: Callable[[], bool], *, what: str, seconds: float = SETTLE_SECONDS) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not so after {seconds:.0f} s"
        time.sleep(0.3)
