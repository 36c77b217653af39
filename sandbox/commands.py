"""Running other programs, so that their failures are one line and Ctrl-C leaves none of them behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.errors import SandboxError

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def run(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    nice: int = 0,
) -> str:
    """Run a program to its end and give back its standard output.

    Args:
        command: the program and its arguments.
        log: where its output goes instead of coming back; the error message then names this file.
        nice: a build is niced so that the cluster beside it boots as if it were alone.
        cwd: its working directory.
        env: its whole environment; ours when left out.
        stdin: what it reads.
        check: False gives back the output of a program that failed, too.

    Raises:
        SandboxError: it failed; the message holds the last line that it wrote on standard error.
    """
    words = ["nice", "-n", str(nice), *map(str, command)] if nice else [str(word) for word in command]
    sink = log.open("ab") if log else None
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SandboxError(f"{words[0]} is not installed: install it (`make setup` does on Debian)") from None
    finally:
        if sink:
            sink.close()
    with _lock:
        _running.add(process)
    try:
        out, err = process.communicate(stdin.encode() if stdin is not None else None)
    finally:
        with _lock:
            _running.discard(process)
    if check and process.returncode != 0:
        raise SandboxError(_failure(words, process.returncode, err, log))
    return out.decode(errors="replace") if out else ""


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> bool:
    """Whether a program exits with 0; its output is of no interest."""
    done = subprocess.run(list(map(str, command)), capture_output=True, env=env, check=False)
    return done.returncode == 0


def stop_all() -> None:
    """Kill what `run` started in any thread, with its children: what a person means by Ctrl-C."""
    with _lock:
        processes = list(_running)
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue


def _failure(words: Sequence[str], status: int, err: bytes | None, log: Path | None) -> str:
    text = err.decode(errors="replace") if err else _tail(log)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else f"exit status {status}"
    where = f" (all of it: {log})" if log else ""
    return f"{' '.join(words[:4])} … failed: {last}{where}"


def _tail(log: Path | None) -> str:
    if log is None:
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4000))
        return file.read().decode(errors="replace")
