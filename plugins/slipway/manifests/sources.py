"""Which sources a model's weights are fetched from, in which order, and which directory they lie in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from slipway.catalog.names import object_name
from slipway.catalog.records import Cluster, Model

FETCHED = ("modelscope", "s3", "https", "http", "nfs", "pvc")
"""The kinds of sources that our own download step reads; ``oss://`` needs Fluid or a static volume."""


def sources_of(model: Model, cluster: Cluster, *, own: str | None, asked: str | None) -> list[str]:
    """The sources in the order in which they are tried.

    Args:
        model: its list is what is left to try.
        cluster: where they are fetched; without an object store it reads no ``s3://``.
        own: the endpoint's; it comes before the model's, also where it cannot be used: that is a fault to be told.
        asked: a run's; it is the only one, since who names a source wants no other.

    Returns:
        At least one; the first, though it cannot be used here, when none can.
    """
    if asked:
        return [asked]
    found = list(dict.fromkeys([*([own] if own else []), *model.sources]))
    usable = [source for source in found if source == own or _is_usable(source, cluster)]
    return usable or found[:1]


def revision_of(model: Model, sources: Sequence[str], *, asked: str | None, own_source: bool) -> str | None:
    """The revision that is meant: a run's, else the one in a source's URL, else the model's.

    A source that a run names comes without the model's revision, which may mean nothing there.
    """
    named = next((found for source in sources if (found := _named_revision(source))), None)
    return asked or named or (None if own_source else model.revision)


def as_ordered(sources: Sequence[str], *, asked: str | None, revision: str | None) -> list[str]:
    """The sources as a fetch order names them: a hub's revision is part of the URL, other kinds have none.

    Args:
        sources: as the catalog or a run named them.
        asked: the revision that a run asked for, which takes the place of one in a URL.
        revision: the one for sources that name none.
    """
    return [_as_ordered(source, asked or _named_revision(source) or revision) for source in sources]


def directory_of(model: Model, *, own: str | None, asked: str | None, revision: str | None) -> str:
    """Where in the volume a version of the weights lies: ``<model>/<key>``.

    The key is a hash of what makes it another version: the model, the revision, and a source that an endpoint or a
    run named in the place of the model's. Which of the model's sources delivered makes no difference: they hold the
    same, so the weights are found again when another one is first in the list or a mirror was added.
    """
    named = (asked or own or "").split("?", 1)[0]
    key = hashlib.sha256(json.dumps([model.name, named, revision]).encode()).hexdigest()[:12]
    return f"{object_name(model.name)}/{key}"


def in_claim(source: str, claim: str) -> str | None:
    """The path in a claim when a source is a directory of that very claim: there is nothing to copy."""
    parts = urlsplit(source)
    return unquote(parts.path).strip("/") or None if (parts.scheme, parts.netloc) == ("pvc", claim) else None


def _named_revision(source: str) -> str | None:
    return parse_qs(urlsplit(source).query).get("revision", [None])[0]


def _as_ordered(source: str, revision: str | None) -> str:
    if urlsplit(source).scheme != "modelscope" or not revision:
        return source
    return f"{source.split('?', 1)[0]}?revision={revision}"


def _is_usable(source: str, cluster: Cluster) -> bool:
    scheme = urlsplit(source).scheme
    return scheme in FETCHED and (scheme != "s3" or cluster.object_store is not None)
