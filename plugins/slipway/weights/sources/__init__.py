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

__all__ = ["Source", "TransientError", "open_source"]


def open_source(order: FetchOrder) -> Source:
    """Make the adapter for an order's source; nothing is contacted yet.

    Raises:
        UsageError: a source of a kind that is unknown, or known and not built yet.
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
    if parts.scheme in {"nfs", "pvc"}:
        raise UsageError(
            f"sources of the kind {parts.scheme}:// are not built yet",
            about=order.source,
            remedy="copy the model to S3, or serve it over https with a SHA256SUMS",
        )
    raise UsageError(
        "a source of unknown kind",
        about=order.source,
        remedy="use s3://bucket/prefix, modelscope://org/name?revision=… or https://…",
    )
