"""Whatever a server, a network or a kill does: a download ends verified, or with a typed error and nothing ready."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from slipway.errors import WeightsError
from slipway.weights import FetchOrder, fetch, parts
from slipway.weights.manifest import READY
from tests.unit.weights_gateway import KEYS, Gateway, accounts, files_in, model, safetensors
from tests.weights_proxy import FAULTS, Proxy, proxying, schedule

PART = 1024 * 1024
STREAMS = 4


def rounds(*, quick: int, full: int) -> list[object]:
    """Numbers of random rounds: the first few always, all of them by `make test-full`."""
    count = int(os.environ.get("ROUNDS", full))
    return [
        pytest.param(number, marks=[] if number < quick else pytest.mark.full)
        for number in range(max(quick, count))
    ]


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(parts, "PART", PART)
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)


@dataclass
class Stored:
    """A model in the S3 server, with and without a list of digests."""

    gateway: Gateway
    files: dict[str, bytes]
    with_sums: str
    sizes_only: str


@pytest.fixture(scope="module")
def stored(gateway: Gateway) -> Stored:
    files = model(size=5_000_000) | {"目录/说明.md": "你好".encode(), "extra.bin": safetensors(PART - 100)}
    listed = gateway.put("faults-with-sums", "m", files)
    return Stored(gateway, files, listed, gateway.put("faults-sizes-only", "m", files, with_sums=False))


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny" / "0123456789ab"


def silently(line: str) -> None:
    del line


@pytest.mark.parametrize("seed", rounds(quick=20, full=200))
def test_any_sequence_of_faults_ends_verified_or_with_a_typed_error(
    stored: Stored, destination: Path, seed: int
) -> None:
    with_sums = seed % 4 != 0
    # Without a digest nothing can tell a flipped bit: such a download is never called verified.
    fault = schedule(seed, without=() if with_sums else ("flip",))
    source = stored.with_sums if with_sums else stored.sizes_only
    with proxying(Proxy(stored.gateway.port, fault=fault)) as proxy:
        order = stored.gateway.order(source, destination, port=proxy.port, streams=STREAMS, stall_seconds=0.1)
        try:
            fetch(order, say=silently)
        except WeightsError as error:
            assert error.remedy
            assert not destination.exists()
            assert not list(destination.parent.rglob(READY))
            proxy.fault = lambda: None
            # A machine may be as slow as it likes where nothing is wrong.
            fetch(order.model_copy(update={"stall_seconds": 60}), say=silently)
    assert files_in(destination) == stored.files
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]


@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault_of_each_kind_costs_at_most_its_part_again(
    stored: Stored, destination: Path, kind: str
) -> None:
    faults = [kind]
    with proxying(Proxy(stored.gateway.port, fault=lambda: faults.pop() if faults else None)) as proxy:
        order = stored.gateway.order(
            stored.with_sums, destination, port=proxy.port, streams=1, stall_seconds=2
        )
        if kind == "expired":
            with pytest.raises(WeightsError, match="the session token has expired"):
                fetch(order, say=silently)
            return
        fetch(order, say=silently)
    assert files_in(destination) == stored.files
    assert not faults


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mounted Secret with the server's keys, instead of the environment's."""
    directory = tmp_path / "secret"
    directory.mkdir()
    for name, value in KEYS.items():
        monkeypatch.delenv(name)
        (directory / name).write_text(value)
    monkeypatch.setenv("SLIPWAY_CREDENTIALS", str(directory))
    return directory


def test_keys_that_expire_in_the_middle_are_renewed_from_the_secret_and_no_byte_comes_twice(
    stored: Stored, destination: Path, secret: Path
) -> None:
    asked = 0
    renewed = threading.Event()

    def fault() -> str | None:
        nonlocal asked
        asked += 1
        return "expired" if asked > 3 and not renewed.is_set() else None

    def renew(line: str) -> None:
        # As kubelet does: a while after the keys have expired, and all at once.
        if "waiting for new keys" in line:
            (secret / "AWS_ACCESS_KEY_ID").write_text(KEYS["AWS_ACCESS_KEY_ID"] + "\n")
            renewed.set()

    with proxying(Proxy(stored.gateway.port, fault=fault)) as proxy:
        order = stored.gateway.order(stored.with_sums, destination, port=proxy.port, streams=STREAMS)
        result = fetch(order, say=renew)
    assert files_in(destination) == stored.files
    assert renewed.is_set()
    assert result.bytes_fetched == sum(map(len, stored.files.values()))


def test_an_account_that_is_replaced_in_the_middle_is_followed_by_the_secrets_new_keys(
    tmp_path: Path, destination: Path, secret: Path
) -> None:
    files = model(size=5_000_000)
    with accounts(tmp_path / "server") as (server, admin):
        for user in ("first", "second"):
            admin("create-user", "--access", user, "--secret", f"{user}-secret", "--role", "admin")
        source = server.put("rotating", "m", files)
        (secret / "AWS_ACCESS_KEY_ID").write_text("first")
        (secret / "AWS_SECRET_ACCESS_KEY").write_text("first-secret")
        said: list[str] = []

        def replace_account() -> None:
            # Asked before a range is answered: the account is gone from here on, its successor is in the Secret later.
            if proxy.served > 2_000_000 and not gone.is_set():
                gone.set()
                admin("delete-user", "--access", "first")

        def renew(line: str) -> None:
            said.append(line)
            if "waiting for new keys" in line:
                (secret / "AWS_SECRET_ACCESS_KEY").write_text("second-secret")
                (secret / "AWS_ACCESS_KEY_ID").write_text("second")

        gone = threading.Event()
        with proxying(Proxy(server.port, fault=replace_account)) as proxy:
            order = server.order(source, destination, port=proxy.port, streams=STREAMS)
            fetch(order, say=renew)
    assert files_in(destination) == files
    assert gone.is_set()
    assert any("waiting for new keys" in line for line in said), said


def download(order: FetchOrder, part_size: int, until: str) -> None:
    """Runs in a process of its own; ends itself by SIGKILL at the place that ``until`` names."""
    engine = import_module("slipway.weights.fetch")
    parts.PART = part_size
    os.environ.update(KEYS)
    if until == "disk full":
        engine.space_needed = lambda files, directory: 0
    elif until:
        setattr(engine, until, lambda *arguments, **more: os.kill(os.getpid(), signal.SIGKILL))
    fetch(order, say=silently)


@pytest.fixture(scope="module")
def start() -> Callable[..., multiprocessing.context.ForkServerProcess]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["slipway.weights.sources.s3", "test_weights_faults"])

    def run(order: FetchOrder, until: str = "") -> multiprocessing.context.ForkServerProcess:
        process = context.Process(target=download, args=(order, PART, until), daemon=True)
        process.start()
        return process

    return run


@pytest.mark.parametrize("seed", rounds(quick=10, full=100))
def test_a_kill_at_any_moment_costs_less_than_a_part_for_each_stream(
    stored: Stored,
    destination: Path,
    seed: int,
    start: Callable[..., multiprocessing.context.ForkServerProcess],
) -> None:
    draw = random.Random(seed)
    total = sum(map(len, stored.files.values()))
    # Between transfer and rename, between rename and marker; else after any number of bytes.
    until = {3: "_publish", 7: "write_ready"}.get(seed % 10, "")
    kill_at = draw.randint(0, total)
    with proxying(Proxy(stored.gateway.port)) as proxy:
        order = stored.gateway.order(stored.with_sums, destination, port=proxy.port, streams=STREAMS)
        process = start(order, until)
        while process.is_alive() and (until or proxy.served < kill_at):
            process.join(0.001)
        process.kill()
        process.join()
        assert until == "" or process.exitcode == -signal.SIGKILL
        assert until == "" or not list(destination.parent.rglob(READY))
        before = proxy.served
        result = fetch(order, say=silently)
    assert files_in(destination) == stored.files
    assert before + result.bytes_fetched <= total + STREAMS * PART
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB, smaller than the model."""
    volume = tmp_path / "volume"
    volume.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(volume)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield volume
    subprocess.run(["umount", "--lazy", volume], check=True)


@pytest.mark.parametrize("seed", rounds(quick=2, full=20))
def test_a_volume_that_fills_up_in_the_middle_is_said_and_what_it_has_is_kept(
    stored: Stored,
    small_volume: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., multiprocessing.context.ForkServerProcess],
) -> None:
    destination = small_volume / "tiny" / "0123456789ab"
    total = sum(map(len, stored.files.values()))
    monkeypatch.setattr(import_module("slipway.weights.fetch"), "space_needed", lambda files, directory: 0)
    with proxying(Proxy(stored.gateway.port)) as proxy:
        order = stored.gateway.order(stored.with_sums, destination, port=proxy.port, streams=STREAMS)
        if seed % 2:
            process = start(order, "disk full")
            while process.is_alive() and proxy.served < random.Random(seed).randint(3_000_000, 6_000_000):
                process.join(0.001)
            process.kill()
            process.join()
        else:
            with pytest.raises(WeightsError, match=r"the volume is full.*what is downloaded already is kept"):
                fetch(order, say=silently)
        assert not list(small_volume.rglob(READY))
        subprocess.run(["mount", "-o", "remount,size=64m", small_volume], check=True)
        before = proxy.served
        result = fetch(order, say=silently)
    assert files_in(destination) == stored.files
    assert before + result.bytes_fetched <= total + STREAMS * PART


def test_two_pods_on_one_destination_download_it_once(
    stored: Stored, destination: Path, start: Callable[..., multiprocessing.context.ForkServerProcess]
) -> None:
    with proxying(Proxy(stored.gateway.port)) as proxy:
        order = stored.gateway.order(stored.with_sums, destination, port=proxy.port, streams=STREAMS)
        both = [start(order), start(order)]
        for process in both:
            process.join(600)
        assert [process.exitcode for process in both] == [0, 0]
        assert proxy.served == sum(map(len, stored.files.values()))
    assert files_in(destination) == stored.files
