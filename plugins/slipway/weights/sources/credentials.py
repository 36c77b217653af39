"""Secrets of sources: from files that Kubernetes renews, else from the environment; never from an order.

A download of hundreds of gigabytes outlives a session token. An environment variable stays what it was when the pod
started, but the files of a mounted Secret follow the Secret; so each use reads them again.
"""

from __future__ import annotations

import os
from pathlib import Path

DIRECTORY = "SLIPWAY_CREDENTIALS"
"""Names the directory where Secrets are mounted: one file for each key."""

SOURCES_SECRET = "slipway-sources"  # noqa: S105 - the name of a Secret
"""A Secret in the namespace, if it is there: MODELSCOPE_API_TOKEN, MODELSCOPE_ENDPOINT, SLIPWAY_HTTPS_TOKEN, ca.crt."""

CA_BUNDLE = "ca.crt"
"""The key with the certificates that a private server's certificate is checked against."""


def credential(name: str) -> str | None:
    """Read a secret as it is now; None when there is none, or an empty one."""
    path = _path(name)
    try:
        found = path.read_text(encoding="utf-8").strip() if path else ""
    except OSError:
        found = ""
    return found or os.environ.get(name) or None


def renewable(*names: str) -> bool:
    """Whether a secret is in a mounted Secret's file: it may be another one in a minute, an environment never."""
    return any((path := _path(name)) is not None and path.is_file() for name in names)


def ca_bundle() -> str | None:
    """The file with a private server's certificates, from the Secret or ``AWS_CA_BUNDLE``; None for the system's."""
    path = _path(CA_BUNDLE)
    return str(path) if path and path.is_file() else os.environ.get("AWS_CA_BUNDLE") or None


def _path(name: str) -> Path | None:
    directory = os.environ.get(DIRECTORY)
    return Path(directory) / name if directory else None
