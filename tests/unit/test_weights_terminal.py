"""``slipway fetch`` in a real terminal: a bar, Ctrl-C, and the same command again."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.weights_gateway import KEYS, Gateway, files_in, model
from tests.weights_proxy import Proxy, proxying


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._pid, self._end = pty.fork()
        if not self._pid:
            os.environ["COLUMNS"] = "120"
            # Tests that were started in the background inherit that it is ignored; a terminal's command never does.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(sys.executable, [sys.executable, "-m", "slipway.cli", *arguments])
        self.seen = ""

    def pieces(self) -> Iterator[str]:
        """What it shows, as it comes, to its end."""
        with suppress(OSError):  # a terminal that nobody has open any more
            while data := os.read(self._end, 65536):
                self.seen += data.decode("utf-8", "replace")
                yield self.seen

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._end, b"\x03")

    def finish(self) -> int:
        """Wait for its end; returns the exit status."""
        for _ in self.pieces():
            continue
        os.close(self._end)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@pytest.fixture(autouse=True)
def code_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "plugins"))


def test_a_bar_is_shown_and_after_ctrl_c_the_same_command_goes_on(
    gateway: Gateway,
    tmp_path: Path,
) -> None:
    files = model(size=60_000_000)
    source, destination = gateway.put("terminal", "m", files), tmp_path / "volume" / "m"
    go_on, asked = threading.Event(), 0

    def hold() -> None:
        nonlocal asked
        asked += 1
        if asked > 6:  # the small files and the first parts come, the next ones not
            go_on.wait()

    with proxying(Proxy(gateway.port, fault=hold)) as proxy:
        command = ["fetch", source, str(destination), "--endpoint-url", f"http://127.0.0.1:{proxy.port}"]
        terminal = Terminal(*command)
        for seen in terminal.pieces():
            if "[#" in seen and " left" in seen:
                break
        terminal.interrupt()
        status = terminal.finish()
        go_on.set()
        assert (status, destination.exists()) == (130, False)
        assert destination.with_name("m.partial").is_dir()
        assert "interrupted; the same command goes on with what has arrived" in terminal.seen
        assert "Traceback" not in terminal.seen

        again = Terminal(*command)
        assert again.finish() == 0, again.seen
        assert " reused, " in again.seen
        assert files_in(destination) == files
        before = proxy.served
        assert Terminal(*command).finish() == 0
        assert proxy.served == before


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, 1, "S3 denied access"),
        ({"source": "s3://no-such-bucket/m"}, 1, "there is no bucket no-such-bucket"),
        ({"source": "s3://"}, 2, "an S3 source needs a bucket and a prefix"),
        ({"directory": "/dev/null/x/y"}, 1, "the volume does not work"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_status(
    gateway: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    status: int,
    message: str,
) -> None:
    if "terminal-faults" not in [one["Name"] for one in gateway.client.list_buckets()["Buckets"]]:
        gateway.put("terminal-faults", "m", model())
    for name in change.keys() - {"source", "directory"}:
        monkeypatch.setenv(name, change[name])
    terminal = Terminal(
        "fetch",
        change.get("source", "s3://terminal-faults/m"),
        change.get("directory", str(tmp_path / "volume" / "m")),
        "--endpoint-url",
        f"http://127.0.0.1:{gateway.port}",
    )
    assert terminal.finish() == status
    shown = [line for line in terminal.seen.splitlines() if line.strip() and not line.startswith("s3://")]
    assert len(shown) == 1 and shown[0].startswith(f"slipway: {message}")
