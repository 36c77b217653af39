"""The journal of a download: which parts are written, so that a killed download continues where it was.

One append-only text file beside the destination. A line is appended as soon as its part is written; the data become
durable in groups, and a line ``{"s": n}`` then says that the first ``n`` records are true even after a power cut. What
comes after the last such line is believed only by a process under the same kernel (the same boot id): a process that is
killed loses nothing, because the kernel still has what it wrote; a machine that goes down loses the last group.
A torn last line is dropped and its part is fetched again. The first line names the manifest: a journal of other files
is started anew. Records are about 30 bytes for a part of 16 MiB: 1.3 MB for 700 GB.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

_FORMAT = 2


class Journal:
    """What is known to be written; safe to use from several threads.

    Args:
        path: the journal's file, created when it isn't there.
        manifest_digest: the files that it is about.
        part_size: the size of a part; a journal with another one is started anew.
        boot: names the running kernel; only tests give another one.
    """

    def __init__(self, path: Path, *, manifest_digest: str, part_size: int, boot: str | None = None) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, set[int]] = {}
        self._verified: dict[str, tuple[str, int]] = {}
        self._count = 0
        self._pending: list[tuple[int, str, dict[str, Any]]] = []
        self._unsynced: set[str] = set()
        self._boot = _boot_id() if boot is None else boot
        header = {"format": _FORMAT, "manifest": manifest_digest, "part_size": part_size}
        kept = self._load(path, header=header)
        self._file = path.open("ab", buffering=0)
        if kept is None:
            self._file.truncate(0)
            self._append(header)
        else:
            self._file.truncate(kept)
            self._settle()
        self._append({"b": self._boot})

    def parts(self, path: str) -> frozenset[int]:
        """The parts of a file that are written."""
        with self._lock:
            return frozenset(self._parts.get(path, ()))

    def verified(self, path: str) -> tuple[str, int] | None:
        """The digest that a complete file was found to have, and the file's mtime_ns at that moment."""
        with self._lock:
            return self._verified.get(path)

    def part_done(self, path: str, part: int) -> None:
        """Record a part; its data has to be written already, and is synced with the next group."""
        self._record({"f": path, "p": part})

    def file_verified(self, path: str, *, sha256: str, mtime_ns: int) -> None:
        """Record a complete file's digest."""
        self._record({"f": path, "v": sha256, "m": mtime_ns})

    def forget(self, path: str) -> None:
        """Record that a file is not to be trusted: all of it is fetched again."""
        self._record({"f": path, "x": 1})

    def unsynced(self) -> tuple[set[str], int]:
        """The files with records that no sync covers yet, and the number to give to ``synced`` after syncing them."""
        with self._lock:
            paths, self._unsynced = self._unsynced, set()
            return paths, self._count

    def synced(self, count: int) -> None:
        """Record that the data of the first ``count`` records are durable."""
        with self._lock:
            self._append({"s": count})
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Sync and close; the journal stays on the disk."""
        with self._lock:
            if not self._file.closed:
                os.fsync(self._file.fileno())
                self._file.close()

    def _record(self, record: dict[str, Any]) -> None:
        with self._lock:
            self._append(record)
            self._count += 1
            self._apply(record)
            if "x" in record:
                self._unsynced.discard(record["f"])
            else:
                self._unsynced.add(record["f"])

    def _append(self, record: dict[str, Any]) -> None:
        # One write call for a whole line: concurrent writers or a kill leave whole lines and at most one torn one.
        line = (json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n").encode()
        written = self._file.write(line)
        if written != len(line):
            self._file.truncate(self._file.tell() - written)
            raise OSError(28, "No space left on device")

    def _apply(self, record: dict[str, Any]) -> None:
        path = record["f"]
        if "p" in record:
            self._parts.setdefault(path, set()).add(int(record["p"]))
        elif "v" in record:
            self._verified[path] = (str(record["v"]), int(record["m"]))
        else:
            self._parts.pop(path, None)
            self._verified.pop(path, None)

    def _load(self, path: Path, *, header: dict[str, Any]) -> int | None:
        """Read what is there; return how many bytes of it are sound, None when it is another download's."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        sound, boot = 0, ""
        for number, line in enumerate(data.splitlines(keepends=True)):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if not isinstance(record, dict):
                break
            if number == 0:
                if record != header:
                    return None
            else:
                try:
                    boot = str(record["b"]) if "b" in record else boot
                    self._replay(record, boot=boot)
                except (KeyError, TypeError, ValueError):
                    break
            sound += len(line)
        return sound or None

    def _replay(self, record: dict[str, Any], *, boot: str) -> None:
        if "b" in record:
            return
        if "s" in record:
            covered = int(record["s"])
            for number, _, pending in self._pending:
                if number < covered:
                    self._apply(pending)
            self._pending = [item for item in self._pending if item[0] >= covered]
        elif "d" in record:
            self._pending.clear()
        elif "x" in record:
            self._pending = [item for item in self._pending if item[2]["f"] != record["f"]]
            self._apply(record)
            self._count += 1
        else:
            str(record["f"]), int(record["p"] if "p" in record else record["m"])
            self._pending.append((self._count, boot, record))
            self._count += 1

    def _settle(self) -> None:
        """Believe what no sync covers only if this kernel wrote all of it; else say so in the journal."""
        if not self._boot or any(boot != self._boot for _, boot, _ in self._pending):
            self._append({"d": 1})
        else:
            for _, _, record in self._pending:
                self._apply(record)
                self._unsynced.add(record["f"])
        self._pending.clear()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
