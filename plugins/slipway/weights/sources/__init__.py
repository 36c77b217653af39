"""Where weights come from: one adapter for each kind of source.

An adapter knows two things: what a source holds (``manifest``) and how a range of one file is read
(``read``). Everything else, from retries to verification, is the same for all and lives in the engine. A new
kind of source is a new module here and a line in ``open_source``; its libraries are imported when it is used,
so that a pod or a terminal that fetches from S3 needs nothing of ModelScope.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from slipway.errors import UsageError
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.base import Source, TransientError

__all__ = ["Source", "TransientError", "most_streams", "open_source"]

_FEW = 8
"""Streams that fill a disk or a file server: there is no limit for each connection that more would get around."""


def most_streams(source: str) -> int:
    """How many ranges of a source are read at once at most.

    libnfs holds three blocks for each connection, so many of them would not fit into a download pod's memory.
    """
    return _FEW if urlsplit(source).scheme in {"nfs", "pvc"} else 64


def open_source(order: FetchOrder) -> Source:
    """Make the adapter for an order's source; nothing is contacted yet.

    Raises:
        UsageError: a source of a kind that is unknown, or one that says too little.
    """
    parts = urlsplit(order.source)
    if parts.username or parts.password:
        raise UsageError(
            "a source must not have credentials in it",
            about=f"{parts.scheme}://…@{parts.hostname}",
            remedy="give them by the environment from a Secret",
        )
    if parts.scheme == "s3":
        from slipway.weights.sources.s3 import S3Source

        return S3Source(order)
    if parts.scheme == "modelscope":
        from slipway.weights.sources.modelscope import ModelScopeSource

        return ModelScopeSource(order)
    if parts.scheme in {"https", "http"}:
        from slipway.weights.sources.https import HttpsSource

        return HttpsSource(order)
    if parts.scheme == "nfs":
        from slipway.weights.sources.nfs import NfsSource

        return NfsSource(order)
    if parts.scheme == "pvc":
        from slipway.weights.sources.mounted import MountedSource

        return MountedSource(order)
    raise UsageError(
        "a source of unknown kind",
        about=order.source,
        remedy="use s3://bucket/prefix, modelscope://org/name?revision=…, https://…, nfs://server/export/path or "
        "pvc://claim/path",
    )
