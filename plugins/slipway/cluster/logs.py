"""The end of a container's log, bounded in lines and bytes."""

from __future__ import annotations

from slipway.cluster.objects import object_path
from slipway.cluster.transport import Answer, Request

_LARGEST_LOG = 256 * 1024
_NO_LOG = "unable to retrieve container logs"


def log_text(answer: Answer) -> str:
    """Return the log in an answer; "" where the kubelet says instead that it has none any more."""
    text = answer.text() if answer.status == 200 else ""
    return "" if text.startswith(_NO_LOG) else text


def log_request(
    namespace: str, pod: str, *, container: str | None = None, previous: bool = False, tail: int = 100
) -> Request:
    """Return the request for the end of a container's log, bounded in lines and bytes.

    400 is the server's answer for a container that never ran, 404 for a pod that is gone.
    """
    query: dict[str, str | int] = {"tailLines": tail, "limitBytes": _LARGEST_LOG}
    if container:
        query["container"] = container
    if previous:
        query["previous"] = "true"
    return Request(
        method="GET",
        path=object_path(api_version="v1", plural="pods", namespace=namespace, name=pod, subresource="log"),
        what="read a log",
        about=f"Pod {namespace}/{pod}",
        query=query,
        accept=frozenset({400, 404}),
    )
