"""Is a model in its place already? Asked of the marker, and of the source only where that can have changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from slipway.errors import WeightsError
from slipway.weights.manifest import Manifest
from slipway.weights.orders import FetchOrder
from slipway.weights.ready import Ready, is_intact, read_again, read_ready
from slipway.weights.space import human_bytes

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def known_to_be_there(order: FetchOrder, *, destination: Path) -> Ready | None:
    """The marker of a download of this very source, when nothing behind the source can have changed since.

    Only a source that names a commit is such a one: it needs not be asked, or reachable, to know that all is there.
    """
    revision = parse_qs(urlsplit(order.source).query).get("revision", [""])[0]
    if not _COMMIT.fullmatch(revision):
        return None
    ready = read_ready(destination)
    if ready is None or ready.source != order.source:
        return None
    return ready if is_intact(destination, ready=ready) else None


def find_damaged(order: FetchOrder, *, destination: Path, say: Callable[[str], None]) -> frozenset[str]:
    """Files whose bytes are not what the marker says, when the order asks for all of them to be read again."""
    ready = read_ready(destination) if order.verify == "full" else None
    if ready is None:
        return frozenset()
    say(f"reading all of {destination} again, {human_bytes(ready.bytes_total)}")
    damaged = read_again(destination, ready=ready)
    for path in damaged:
        say(f"{path} has another digest than it was verified with")
    return frozenset(damaged)


def already_there(order: FetchOrder, *, destination: Path, manifest: Manifest) -> Ready | None:
    """The marker, when the destination holds exactly these files and none was touched.

    Raises:
        WeightsError: the destination is ready with other files than the source has now.
    """
    ready = read_ready(destination)
    if ready is None:
        return None
    if ready.manifest_digest != manifest.digest:
        raise WeightsError(
            f"the files behind {order.source} changed since they were downloaded",
            about=str(destination),
            why=f"their digest was {ready.manifest_digest[:12]} and is {manifest.digest[:12]}",
            remedy="name a new revision or prefix for the new files; what was downloaded stays as it is",
        )
    return ready if is_intact(destination, ready=ready) else None
