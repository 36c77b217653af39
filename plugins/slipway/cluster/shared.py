"""What all waits of a process share that look at one namespace of a cluster: one client, and one watch for each kind.

A triggerer that waits for a thousand workloads then holds five watches, not thousands, and asks nothing as long as
nothing happens. The first wait opens them and the last one closes them; a wait that is cancelled just leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from slipway.cluster.faults import ApiError
from slipway.cluster.mirror import SILENCE_SECONDS, Mirror, stop
from slipway.cluster.objects import ENDPOINT_LABEL
from slipway.cluster.reading import Collection, Found, Key, Read, found_in
from slipway.cluster.transport import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Answer,
    Request,
    checked,
    require_verification,
    unreachable,
)

AT_ONCE = 8
"""Requests beside the watches: when a thousand workloads get ready at once, each is looked at once more."""
MOST_EVENTS = 20_000
"""Of a namespace; an API server keeps them for an hour. About 1 KiB each."""
_TICK_SECONDS = 5.0
_SETTLE_SECONDS = 0.1


class AsyncApiClient(Protocol):
    """What is used of a ``kubernetes_asyncio.client.ApiClient``."""

    configuration: Any

    @property
    def call_api(self) -> Any:
        """Send a request; a coroutine function."""


Opener = Callable[[], AbstractAsyncContextManager[AsyncApiClient]]


class SharedLink:
    """One client for all requests; opened anew when its credentials are refused, since tokens expire.

    Args:
        opener: makes a client from the cluster's connection as it is then.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener, self._stack, self._former = opener, AsyncExitStack(), AsyncExitStack()
        self._client: AsyncApiClient | None = None
        self._opening, self._slots = asyncio.Lock(), asyncio.Semaphore(AT_ONCE)

    async def open(self) -> None:
        """Open the client, if nobody has yet.

        Raises:
            ClusterError: its certificates would not be verified.
        """
        async with self._opening:
            if self._client is None:
                stack = AsyncExitStack()
                try:
                    client = await stack.enter_async_context(self._opener())
                    require_verification(client.configuration)
                except BaseException:
                    await stack.aclose()
                    raise
                self._stack, self._client = stack, client

    async def close(self) -> None:
        """Close the client."""
        await self._renew(self._client)
        await self._former.aclose()

    async def _renew(self, refused: AsyncApiClient | None) -> None:
        """Open another client with the next request; what is under way on this one has until the one after."""
        if refused is self._client:
            former, self._former = self._former, self._stack
            self._stack, self._client = AsyncExitStack(), None
            await former.aclose()

    async def ask(self, request: Request) -> Answer:
        """Send a request and return its answer.

        Raises:
            ApiError: the server refused it.
            UnreachableError: the server gave no answer.
        """
        async with self._slots, self._sent(request, seconds=READ_SECONDS) as response:
            return checked(
                request, status=response.status, body=await response.read(), headers=response.headers
            )

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Send a request and yield the lines of its answer as they come; first an empty one when it is open.

        Raises:
            ApiError: the server refused it.
            UnreachableError: the server gave no answer, or the connection broke.
        """
        async with self._sent(request, seconds=SILENCE_SECONDS) as response:
            if response.status != 200:
                body = await response.read()
                checked(request, status=response.status, body=body, headers=response.headers)
            yield b""
            async for line in response.content:
                yield line

    @asynccontextmanager
    async def _sent(self, request: Request, *, seconds: float) -> AsyncIterator[Any]:
        import aiohttp

        await self.open()
        client = self._client
        assert client is not None  # just opened
        try:
            response = await client.call_api(
                request.path,
                request.method,
                query_params=list(request.query.items()),
                header_params=request.headers,
                body=request.body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(CONNECT_SECONDS, seconds),
            )
            try:
                yield response
            finally:
                response.close()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unreachable(request, host=str(client.configuration.host), error=error) from error
        except ApiError as error:
            if error.status == 401:
                await self._renew(client)
            raise


class NamespaceView:
    """What the watches of one namespace have told, for those who wait."""

    def __init__(self, namespace: str, *, opener: Opener) -> None:
        self.namespace, self.link = namespace, SharedLink(opener)
        self._mirrors: dict[Collection, Mirror] = {}
        self._interested: dict[Key, set[Seat]] = {}
        self.seats: set[Seat] = set()

    async def read(self, read: Read) -> Found:
        """Return what is known, or, for a fresh read, what the server answers.

        Raises:
            ClusterError: the server refuses, or could not be asked lately.
        """
        if read.fresh:
            return found_in(await self.link.ask(read.request()))
        if read.collection not in self._mirrors:
            self._mirrors[read.collection] = self._mirror(read.collection)
        return await self._mirrors[read.collection].read(read.key)

    def _mirror(self, collection: Collection) -> Mirror:
        plural = collection.plural
        return Mirror(
            collection,
            link=self.link,
            on_change=self._changed,
            labels=ENDPOINT_LABEL if plural == "pods" else "",
            most=MOST_EVENTS if plural == "events" else None,
        )

    def _changed(self, keys: list[Key] | None) -> None:
        seats = (
            self.seats if keys is None else (seat for key in keys for seat in self._interested.get(key, ()))
        )
        for seat in seats:
            seat.changed.set()

    def note_interest(self, seat: Seat, key: Key) -> None:
        """Wake the seat when something by this key changes."""
        self._interested.setdefault(key, set()).add(seat)

    def forget_interest(self, seat: Seat) -> None:
        """Wake it no more."""
        for key in seat.keys:
            seats = self._interested[key]
            seats.discard(seat)
            if not seats:
                del self._interested[key]
        seat.keys.clear()

    async def close(self) -> None:
        """Stop all watches and close the connection."""
        await stop(self._mirrors.values())
        await self.link.close()


class Seat:
    """One wait's place in a view: it is woken when what it last read changes."""

    def __init__(self, view: NamespaceView) -> None:
        self._view, self.changed = view, asyncio.Event()
        self.keys: set[Key] = set()

    async def read(self, read: Read) -> Found:
        """Read, and be woken when that changes (see ``NamespaceView.read``)."""
        if read.key not in self.keys:
            self.keys.add(read.key)
            self._view.note_interest(self, read.key)
        return await self._view.read(read)

    async def ask(self, request: Request) -> Answer:
        """Ask the server something that no watch tells."""
        return await self._view.link.ask(request)

    async def pause(self) -> None:
        """Wait until something that was read has changed; some reasons only come with time, so not for ever.

        What comes in one go, such as the states of a pod that starts, is looked at once.
        """
        try:
            await asyncio.wait_for(self.changed.wait(), _TICK_SECONDS)
            await asyncio.sleep(_SETTLE_SECONDS)
        except TimeoutError:
            pass
        self._view.forget_interest(self)  # the next look says anew what it reads
        self.changed.clear()


_views: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, NamespaceView]] = WeakKeyDictionary()


@asynccontextmanager
async def seat(connection: Hashable, namespace: str, *, opener: Opener) -> AsyncIterator[Seat]:
    """Take a place among those who wait for something in a namespace; the last to leave closes the watches.

    Args:
        connection: names the cluster and the rights there; who names the same shares.
        namespace: of what is waited for.
        opener: makes a client, should this be the first, or the credentials have expired.

    Raises:
        ClusterError: certificates would not be verified.
    """
    views = _views.setdefault(asyncio.get_running_loop(), {})
    key = (connection, namespace)
    view = views.get(key) or views.setdefault(key, NamespaceView(namespace, opener=opener))
    taken = Seat(view)
    view.seats.add(taken)
    try:
        await view.link.open()
        yield taken
    finally:
        view.seats.discard(taken)
        view.forget_interest(taken)
        if not view.seats:
            del views[key]
            await view.close()
