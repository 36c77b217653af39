"""The journal of a download: which parts are on the disk, so that a killed download continues where it was.

One append-only text file beside the destination. A line is written only after the data that it speaks of was
synced, so a line that survived a crash is true; a torn last line is dropped and its part is fetched again.
The first line names the manifest: a journal of other files is started anew. Records are small (about 30 bytes
for a part of 16 MiB: 1.3 MB for 700 GB) and are kept in memory as sets of numbers.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

_FORMAT = 1


class Journal:
    """What is known to be on the disk; safe to use from several threads.

    Args:
        path: the journal's file, created when it isn't there.
        manifest_digest: the files that it is about.
        part_size: the size of a part; a journal with another one is started anew.
    """

    def __init__(self, path: Path, *, manifest_digest: str, part_size: int) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, set[int]] = {}
        self._verified: dict[str, tuple[str, int]] = {}
        header = {"format": _FORMAT, "manifest": manifest_digest, "part_size": part_size}
        kept = self._load(path, header=header)
        self._file = path.open("ab", buffering=0)
        if kept is None:
            self._file.truncate(0)
            self._append(header)
        else:
            self._file.truncate(kept)

    def parts(self, path: str) -> frozenset[int]:
        """The parts of a file that are on the disk."""
        with self._lock:
            return frozenset(self._parts.get(path, ()))

    def verified(self, path: str) -> tuple[str, int] | None:
        """The digest that a complete file was found to have, and the file's mtime_ns at that moment."""
        with self._lock:
            return self._verified.get(path)

    def part_done(self, path: str, part: int) -> None:
        """Record a part; its data has to be synced already."""
        self._record({"f": path, "p": part})

    def file_verified(self, path: str, *, sha256: str, mtime_ns: int) -> None:
        """Record a complete and synced file's digest."""
        self._record({"f": path, "v": sha256, "m": mtime_ns})

    def forget(self, path: str) -> None:
        """Record that a file is not to be trusted: all of it is fetched again."""
        self._record({"f": path, "x": 1})

    def close(self) -> None:
        """Sync and close; the journal stays on the disk."""
        with self._lock:
            if not self._file.closed:
                os.fsync(self._file.fileno())
                self._file.close()

    def _record(self, record: dict[str, Any]) -> None:
        with self._lock:
            self._append(record)
            self._apply(record)

    def _append(self, record: dict[str, Any]) -> None:
        # One write call for a whole line: concurrent writers or a kill leave whole lines and at most one torn
        # one.
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"
        self._file.write(line.encode())

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
        sound = 0
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
                    self._apply(record)
                except (KeyError, TypeError, ValueError):
                    break
            sound += len(line)
        return sound or None
