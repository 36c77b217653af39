"""Credentials that are made once, at random, and kept in files that only their owner reads."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from pathlib import Path

from sandbox.settings import Settings
from sandbox.templating import write


def kept(config: Settings, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> str:
    """The secret of this name; made on first use."""
    path = file(config, name)
    if not path.exists():
        config.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(path, make() + "\n", mode=0o600)
    return path.read_text().strip()


def file(config: Settings, name: str) -> Path:
    """Where a secret is kept."""
    return config.secrets / name


def fernet_key() -> str:
    """32 random bytes as Fernet wants them."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
