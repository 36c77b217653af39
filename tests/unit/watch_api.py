"""An API server of one namespace that lists and watches, over real HTTP, and can be made to fail as servers do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from slipway.cluster.objects import ENDPOINT_LABEL, RELEASE_LABEL, Object

NAMESPACE = "models"
RELEASE = "r1"
STAMP = "2026-11-21T12:00:00Z"


@dataclass(eq=False)
class WatchApi:
    """What the server has, what it was asked, and its faults.

    Attributes:
        away: it answers nothing; open watches break.
        refusing: the status of every answer.
        token: the only one that it takes.
        deaf: new events reach no watch.
    """

    objects: dict[str, dict[str, Object]] = field(default_factory=dict)
    history: list[tuple[str, int, Object]] = field(default_factory=list)
    version: int = 1
    oldest: int = 0
    asked: list[str] = field(default_factory=list)
    watching: int = 0
    most_watching: int = 0
    away: bool = False
    refusing: int = 0
    token: str = "first"
    deaf: bool = False
    clients: int = 0
    url: str = ""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _era: int = 0

    async def put(self, plural: str, obj: Object, *, gone: bool = False) -> None:
        """Make or change an object, or delete it."""
        self.version += 1
        stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        known = self.objects.setdefault(plural, {})
        name = obj["metadata"]["name"]
        kind = "DELETED" if gone else "MODIFIED" if name in known else "ADDED"
        if gone:
            known.pop(name)
        else:
            known[name] = stored
        self.history.append((plural, self.version, {"type": kind, "object": stored}))
        await self._tell()

    async def say_error(self, code: int) -> None:
        """Send an error as an event to every watch, as a server does whose history is compacted."""
        status = {"kind": "Status", "code": code, "message": "too old resource version"}
        self.version += 1
        for plural in list(self.objects):
            self.history.append((plural, self.version, {"type": "ERROR", "object": status}))
        await self._tell()
        self.forget()

    def forget(self) -> None:
        """Compact: no watch can go on from before now."""
        self.history.clear()
        self.oldest = self.version

    async def cut(self) -> None:
        """Break every watch."""
        self._era += 1
        await self._tell()

    async def until(self, is_so: Any) -> None:
        """Wait until something is so; a test that waits in vain fails."""
        async with asyncio.timeout(5):
            while not is_so():
                await asyncio.sleep(0.01)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def open(self) -> AbstractAsyncContextManager[Any]:
        """A client with the token of now."""
        return self._client(self.token)

    @asynccontextmanager
    async def _client(self, token: str) -> AsyncIterator[Any]:
        from kubernetes_asyncio import client

        configuration = client.Configuration(host=self.url)
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        self.clients += 1
        async with client.ApiClient(configuration) as api_client:
            yield api_client

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.asked.append(request.method + " " + request.path_qs)
        if self.away:
            _abort(request)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refused(401)
        if self.refusing:
            return _refused(self.refusing)
        plural, _, name = request.path.partition(f"/namespaces/{NAMESPACE}/")[2].partition("/")
        known = self.objects.get(plural, {})
        if name:
            return web.json_response(known[name]) if name in known else _refused(404)
        if request.query.get("watch"):
            return await self._watch(request, plural)
        items = [obj for obj in known.values() if _selected(obj, request.query)]
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        told = int(request.query["resourceVersion"])
        if told < self.oldest:
            return _refused(410)
        response, era = web.StreamResponse(), self._era
        await response.prepare(request)
        self.watching += 1
        self.most_watching = max(self.most_watching, self.watching)
        try:
            while True:
                for kind, version, event in list(self.history):
                    if kind == plural and version > told and _selected(event["object"], request.query):
                        told = version
                        await response.write(json.dumps(event).encode() + b"\n")
                async with self._changed:
                    while era == self._era and not self._news(plural, told):
                        await self._changed.wait()
                if era != self._era:
                    _abort(request)
                    return response
        finally:
            self.watching -= 1

    def _news(self, plural: str, told: int) -> bool:
        return not self.deaf and any(kind == plural and version > told for kind, version, _ in self.history)


def _abort(request: web.Request) -> None:
    if request.transport is not None:  # the client may have gone
        request.transport.abort()


def _refused(status: int) -> web.Response:
    body = {"kind": "Status", "code": status, "message": f"refused with {status}", "reason": "Test"}
    return web.json_response(body, status=status)


def _selected(obj: Object, query: Any) -> bool:
    if obj.get("kind") == "Status":
        return True
    labels = obj["metadata"].get("labels") or {}
    for wanted in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = wanted.partition("=")
        if key not in labels or (value and labels[key] != value):
            return False
    name = query.get("fieldSelector", "").removeprefix("involvedObject.name=")
    return not name or obj.get("involvedObject", {}).get("name") == name


@asynccontextmanager
async def serving() -> AsyncIterator[WatchApi]:
    """Run the server on this machine."""
    api = WatchApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await api.cut()
        await runner.cleanup()


def stateful_set(name: str, *, ready: bool, release: str = RELEASE) -> Object:
    """A StatefulSet of one replica, done or under way."""
    done = {"readyReplicas": 1} if ready else {}
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "generation": 1, "creationTimestamp": STAMP},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {ENDPOINT_LABEL: name}},
            "template": {"metadata": {"labels": {RELEASE_LABEL: release}}, "spec": {"containers": []}},
        },
        "status": {
            "observedGeneration": 1,
            "replicas": 1,
            "updatedReplicas": 1,
            "currentRevision": "one",
            "updateRevision": "one",
            **done,
        },
    }


def pod(name: str, *, ready: bool, release: str = RELEASE, phase: str = "Running") -> Object:
    """The pod of such a StatefulSet."""
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    labels = {ENDPOINT_LABEL: name, RELEASE_LABEL: release}
    return {
        "metadata": {"name": f"{name}-0", "namespace": NAMESPACE, "uid": f"{name}-uid", "labels": labels},
        "spec": {"containers": [{"name": "server", "image": "x", "env": [{"name": "SECRET"}]}]},
        "status": {"phase": phase, "conditions": conditions},
    }
