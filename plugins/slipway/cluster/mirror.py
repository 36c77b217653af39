"""A collection kept as the server has it: one list, then one watch, for however many wait for something in it.

What ends a watch and how it goes on (Kubernetes API concepts, "Efficient detection of changes"):

| what | then |
|---|---|
| the server ends it after `timeoutSeconds` | again from the last resourceVersion |
| the connection breaks, or is silent for longer than bookmarks are apart | the same, after a pause |
| 410, as a status or as an event: the resourceVersion has expired | a new list |
| another error of the server's (overload, no right) | a new list after a pause; whoever reads is told the error |
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol

from slipway.cluster.faults import ApiError, UnreachableError, api_error
from slipway.cluster.objects import Object
from slipway.cluster.reading import PAGE, Collection, Found, Key, keys_of, trimmed
from slipway.cluster.transport import Answer, Request
from slipway.errors import ClusterError

SILENCE_SECONDS = 100.0
"""A server sends a bookmark about once a minute; a connection that stays silent for longer is dead."""
_WATCH_SECONDS = 300
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0


class Link(Protocol):
    """The one connection of all mirrors of a namespace."""

    async def ask(self, request: Request) -> Answer:
        """Send a request and return its answer."""

    def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Send a request and yield the lines of its answer as they come; first an empty one when it is open."""


class Mirror:
    """One collection, trimmed to what judgements read.

    Args:
        collection: which.
        link: to its server.
        on_change: told the keys of each object that changed, or None when all may have.
        labels: a label selector; "" for all objects.
        most: of so many objects the oldest is forgotten; for events, which are many and only explain.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        link: Link,
        on_change: Callable[[list[Key] | None], None],
        labels: str = "",
        most: int | None = None,
    ) -> None:
        self.collection, self._link, self._on_change = collection, link, on_change
        self._labels, self._most = labels, most
        self._objects: dict[str, Object] = {}
        self._by_key: dict[Key, dict[str, Object]] = {}
        self._version = ""
        self._clock = 0.0  # the server's time when this machine's monotonic clock was 0
        self._error: ClusterError | None = None
        self._pause = _FIRST_PAUSE
        self._settled = asyncio.Event()
        self.task = asyncio.create_task(self._follow(), name=f"mirror of {collection.path}")

    async def read(self, key: Key) -> Found:
        """Return what is known; waits for the first list.

        Raises:
            ClusterError: the server could not be asked lately, so nobody knows.
        """
        await self._settled.wait()
        if self._error is not None:
            # A new one for each: an error that several raise would gather all their tracebacks.
            raise _copied(self._error)
        now = datetime.fromtimestamp(self._clock + time.monotonic(), tz=UTC)
        return Found(list(self._by_key.get(key, {}).values()), now, fresh=False)

    def __len__(self) -> int:
        return len(self._objects)

    async def _follow(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Exception as error:  # whatever it is: who waits would else take what is old for what is
                failed = _as_cluster_error(self.collection, error)
                if not isinstance(failed, UnreachableError) or not failed.is_transient:
                    self._version = ""
                if not (isinstance(failed, ApiError) and failed.status == 410):
                    self._settle(failed)
                    self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1))

    def _settle(self, error: ClusterError | None) -> None:
        changed = (self._error is None) != (error is None) or not self._settled.is_set()
        self._error = error
        self._settled.set()
        if error is None:
            self._pause = _FIRST_PAUSE
        if changed:
            self._on_change(None)

    async def _list(self) -> None:
        query: dict[str, str | int] = {"limit": PAGE}
        if self._labels:
            query["labelSelector"] = self._labels
        found: list[Object] = []
        while True:
            answer = await self._link.ask(self._request("list", query))
            self._clock = answer.date.timestamp() - time.monotonic()
            content = answer.json()
            found += [trimmed(one) for one in content.get("items") or []]
            more = content["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
        self._objects.clear()
        self._by_key.clear()
        for one in found:
            self._keep(one)
        self._version = content["metadata"]["resourceVersion"]
        self._settle(None)
        self._on_change(None)

    async def _watch(self) -> None:
        """Follow the changes until the server ends the watch, as it regularly does."""
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": int(_WATCH_SECONDS * random.uniform(1, 1.2)),
        }
        if self._labels:
            query["labelSelector"] = self._labels
        async with aclosing(self._link.stream(self._request("watch", query))) as lines:
            async for line in lines:
                if line:
                    self._hear(json.loads(line))
                else:
                    self._settle(None)

    def _hear(self, event: Object) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            what, about = (
                f"could not watch {self.collection.plural}",
                f"namespace {self.collection.namespace}",
            )
            raise api_error(
                what, about=about, status=int(obj.get("code") or 500), body=json.dumps(obj).encode()
            )
        self._version = obj["metadata"]["resourceVersion"]
        if kind != "BOOKMARK":
            self._take(kind, trimmed(obj))

    def _request(self, what: str, query: dict[str, str | int]) -> Request:
        about = f"namespace {self.collection.namespace}"
        what = f"{what} {self.collection.plural}"
        return Request(method="GET", path=self.collection.path, what=what, about=about, query=dict(query))

    def _take(self, kind: str, obj: Object) -> None:
        keys = keys_of(obj)
        former = self._forget(obj["metadata"]["name"])
        if former is not None:
            keys = list(dict.fromkeys([*keys, *keys_of(former)]))
        if kind != "DELETED":
            self._keep(obj)
        self._on_change(keys)

    def _keep(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        self._objects[name] = obj
        for key in keys_of(obj):
            self._by_key.setdefault(key, {})[name] = obj
        while self._most is not None and len(self._objects) > self._most:
            self._forget(next(iter(self._objects)))

    def _forget(self, name: str) -> Object | None:
        former = self._objects.pop(name, None)
        for key in keys_of(former) if former is not None else []:
            found = self._by_key[key]
            del found[name]
            if not found:
                del self._by_key[key]
        return former


def _as_cluster_error(collection: Collection, error: Exception) -> ClusterError:
    if isinstance(error, ClusterError):
        return error
    return UnreachableError(
        f"could not watch {collection.plural}",
        about=f"namespace {collection.namespace}",
        why=f"what came is no answer of a Kubernetes API: {type(error).__name__}: {error}",
        remedy="Check the address in the cluster's connection, and proxies on the way",
    )


def _copied(error: ClusterError) -> ClusterError:
    copy = error.__class__.__new__(error.__class__)
    copy.__dict__.update(error.__dict__)
    copy.args = error.args
    return copy


async def stop(mirrors: Iterable[Mirror]) -> None:
    """End them, also where the waiting for their ends is itself cancelled."""
    tasks = [mirror.task for mirror in mirrors]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
