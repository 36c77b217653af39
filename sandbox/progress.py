"""Progress as short lines with the seconds since the command began."""

from __future__ import annotations

import threading
import time

_began = time.monotonic()
_lock = threading.Lock()


def say(message: str) -> None:
    """Print one line; builds and boot report from several threads, and lines must not mix."""
    with _lock:
        print(f"[{time.monotonic() - _began:6.1f}s] {message}", flush=True)


def elapsed() -> float:
    """Seconds since the command began."""
    return time.monotonic() - _began
