"""Exclusive use of a destination across pods, without trusting ``flock``.

``flock`` silently succeeds for everyone on some network file systems (huggingface_hub#4306) and stays behind
on others (modelscope#1778), so the claim is a file that is created with ``O_EXCL`` and whose mtime its owner
renews. One that was not renewed for ``STALE_SECONDS`` is taken over. 'Now' is the mtime of a file that is
written on the same volume at that moment: clocks of pods and of a file server differ, one server's clock does
not differ from itself. An owner that finds another's name in its file stops (``Claim.check``) before it
publishes anything.

Limit: this is the second line. The first is that one run at a time works on an endpoint (DESIGN.md, lock);
between two pods that both see a stale claim in the same instant, the loser notices at its next heartbeat.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slipway.errors import WeightsError

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
_LOOK_SECONDS = 2.0


class Claim:
    """A destination that this process owns; ``check`` raises when it no longer does."""

    def __init__(self, path: Path, token: str) -> None:
        self._path, self._token = path, token
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that the claim is still ours.

        Raises:
            WeightsError: another process has taken it over.
        """
        if self._lost or _owner(self._path).get("token") != self._token:
            raise WeightsError(
                "another pod has taken over this download",
                about=str(self._path),
                why="this one did not renew its claim in time",
                remedy="none needed if the other one finishes; else start it again",
            )

    def release(self) -> None:
        """Give the destination free, if it is still ours."""
        self._stop.set()
        self._thread.join(timeout=HEARTBEAT_SECONDS)
        if _owner(self._path).get("token") == self._token:
            with suppress(OSError):
                self._path.unlink()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                if _owner(self._path).get("token") != self._token:
                    self._lost = True
                    return
                os.utime(self._path)
            except OSError:
                # The volume is away for a moment: others see the claim grow old, and check() will tell.
                continue


@contextmanager
def claimed(path: Path, *, wait_seconds: float, say: Callable[[str], None]) -> Iterator[Claim]:
    """Own ``path`` for the duration of a block; wait while another process visibly works.

    Raises:
        WeightsError: another process still had it after ``wait_seconds``.
    """
    token = uuid.uuid4().hex
    deadline = time.monotonic() + wait_seconds
    told = 0.0
    while not _create(path, token=token):
        owner, age = _owner(path), _age(path)
        if age is None:
            continue
        if age > STALE_SECONDS or _is_dead(owner):
            say(f"taking over the claim of {owner.get('host', 'a dead process')}, {age:.0f} s old")
            _remove_stale(path, token=str(owner.get("token", "")))
            continue
        if time.monotonic() > deadline:
            raise WeightsError(
                "another pod is downloading to the same destination",
                about=str(path),
                why=f"{owner.get('host', 'it')} has held it longer than {wait_seconds:.0f} s and is alive",
                remedy="wait for it, or delete that pod",
            )
        if time.monotonic() - told > 30:
            say(
                f"waiting for {owner.get('host', 'another process')}, which downloads to the same destination"
            )
            told = time.monotonic()
        time.sleep(_LOOK_SECONDS)
    claim = Claim(path, token)
    try:
        yield claim
    finally:
        claim.release()


def _create(path: Path, *, token: str) -> bool:
    record = {"token": token, "host": socket.gethostname(), "pid": os.getpid(), "where": _where()}
    # Written whole under another name and linked: a reader never sees a claim without its owner.
    draft = path.with_name(f"{path.name}.{token}")
    draft.write_text(json.dumps(record))
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:
        # No hard links here (some FUSE file systems): O_EXCL is then what there is.
        try:
            with path.open("x") as file:
                file.write(json.dumps(record))
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _owner(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _age(path: Path) -> float | None:
    """Seconds since the claim was renewed by the volume's own clock; None when it is gone."""
    probe = path.with_name(f"{path.name}.now-{uuid.uuid4().hex}")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _remove_stale(path: Path, *, token: str) -> None:
    """Remove a claim, unless somebody else's took its place since it was looked at."""
    aside = path.with_name(f"{path.name}.stale-{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if str(_owner(aside).get("token", "")) != token:
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _where() -> str:
    """Names the set of processes in which a pid means something: boot and pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_dead(owner: dict[str, Any]) -> bool:
    """True when the owner is a process of this machine and pid namespace that has ended: no need to wait."""
    pid, where = owner.get("pid"), owner.get("where")
    if not where or where != _where() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
