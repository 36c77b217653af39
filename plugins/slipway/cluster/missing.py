"""Requests into a namespace that is gone: who has rights only inside of namespaces is refused, instead of told so."""

from __future__ import annotations

import json
import re
from datetime import datetime

from slipway.cluster.faults import ApiError, api_error
from slipway.cluster.transport import Answer, Request

_PATH = re.compile(r"/(?:api|apis/[^/]+)/[^/]+/namespaces/(?P<namespace>[^/]+)/[^/]+(?P<name>/.+)?")


def namespace_in(path: str) -> str | None:
    """The namespace of the objects that a request is about, or None: of none, or about a namespace itself."""
    match = _PATH.fullmatch(path)
    return match["namespace"] if match else None


def in_no_namespace(request: Request, *, namespace: str, now: datetime) -> Answer:
    """Answer as the API server answers an administrator: nothing is there, and nothing can be made.

    Raises:
        ApiError: 404, where the request has no other way to hear it.
    """
    match = _PATH.fullmatch(request.path)
    if request.method == "GET" and match and not match["name"]:
        return Answer(status=200, body=b'{"items": []}', date=now)
    words = f'namespaces "{namespace}" not found'
    body = json.dumps({"kind": "Status", "message": words, "reason": "NotFound", "code": 404}).encode()
    if 404 in request.accept:
        return Answer(status=404, body=body, date=now)
    raise api_error(f"could not {request.what}", about=request.about, status=404, body=body)


def in_ending_namespace(request: Request, *, namespace: str) -> ApiError:
    """The error of a request into a namespace that is being deleted: its roles may have gone before the rest."""
    words = f"nothing can be done in namespace {namespace} because it is being terminated"
    body = json.dumps({"kind": "Status", "message": words, "reason": "Forbidden", "code": 403}).encode()
    return api_error(f"could not {request.what}", about=request.about, status=403, body=body)
