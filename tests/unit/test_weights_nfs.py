"""NFS as a source: a real server, read without a mount."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import nfs
from sandbox.settings import load
from slipway.errors import UsageError, WeightsError
from slipway.weights import parts
from slipway.weights.bring import bring
from slipway.weights.manifest import SUMS
from slipway.weights.sources import libnfs, open_source
from tests.unit.weights_gateway import files_in, fill, model, order, quietly, sums


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login of this machine's, no long waits."""
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)
    for name in [name for name in os.environ if name.startswith(("MODELSCOPE", "SLIPWAY_CREDENTIALS"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "tiny" / "0123456789ab"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory that a real NFS server exports, and the beginning of its sources."""
    work = tmp_path_factory.mktemp("nfs")
    made = nfs.ensure(load().cache)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory, state, config, log = (work / name for name in ("export", "state", "g.conf", "log"))
    directory.mkdir(mode=0o755)
    state.mkdir()
    config.write_text(
        nfs.configuration(made, address="127.0.0.1", port=port, directory=directory, state=state)
    )
    before = os.environ.get(libnfs.LIBRARY)
    os.environ[libnfs.LIBRARY] = str(made.client)
    libnfs._library.cache_clear()
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *nfs.command(made, config=config, state=state)],
            env={**os.environ, **made.environment},
            stdout=output,
            stderr=output,
        )
    try:
        nfs.wait("127.0.0.1", port, log=log)
        yield directory, f"nfs://127.0.0.1{nfs.EXPORT}/%s?version=4&nfsport={port}"
    finally:
        server.kill()
        server.wait()
        os.environ.pop(libnfs.LIBRARY)
        if before:
            os.environ[libnfs.LIBRARY] = before


def test_a_model_arrives_from_a_real_nfs_server_without_a_mount(
    export: tuple[Path, str], destination: Path
) -> None:
    directory, source = export
    files = model(size=5_000_000) | {"目录/深/a b.txt": b"x"}
    fill(directory / "whole", files | {SUMS: sums(files)})
    (directory / "whole" / "link.txt").symlink_to("config.json")
    result = quietly(bring, source % "whole", destination)
    again = quietly(bring, source % "whole", destination)
    assert files_in(destination) == files | {"link.txt": files["config.json"]}
    assert not any(path.is_symlink() for path in destination.rglob("*"))
    assert "sha256 for" in result.verified
    assert again.bytes_fetched == 0


def test_many_streams_read_from_nfs_at_once_and_every_byte_is_right(
    export: tuple[Path, str], destination: Path
) -> None:
    directory, source = export
    files = model(size=60_000_000)
    fill(directory / "large", files | {SUMS: sums(files)})
    result = quietly(bring, source % "large", destination, streams=16)
    assert (result.verified, result.bytes_fetched) == ("sha256", sum(map(len, files.values())))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", r"no such directory.*pseudo root"),
        ("closed", r"denied access.*insecure"),
        ("loop", r"symbolic link to a directory"),
    ],
)
def test_nfs_says_in_one_line_what_is_wrong(
    export: tuple[Path, str], destination: Path, path: str, message: str
) -> None:
    directory, source = export
    fill(directory / "closed", {"config.json": b"{}"})
    (directory / "closed").chmod(0o700)
    fill(directory / "loop", {"config.json": b"{}"})
    if not (directory / "loop" / "again").is_symlink():
        (directory / "loop" / "again").symlink_to(".")
    with pytest.raises(WeightsError, match=message):
        quietly(bring, source % path, destination)


def test_a_file_that_is_replaced_on_nfs_after_the_listing_is_not_taken(
    export: tuple[Path, str], destination: Path
) -> None:
    directory, source = export
    fill(directory / "moving", model())
    opened = open_source(order(source % "moving", destination))
    entry = next(entry for entry in opened.manifest().files if entry.path == "config.json")
    (directory / "moving" / "config.json").write_bytes(b"[]")
    with pytest.raises(WeightsError, match="changed during the download"):
        list(opened.read(entry, start=0, stop=entry.size))


def test_an_nfs_server_that_is_not_there_is_told_at_once(destination: Path) -> None:
    with pytest.raises(WeightsError, match=r"NFS server cannot be reached.*refused"):
        quietly(bring, "nfs://127.0.0.1/export/m?nfsport=1", destination)


@pytest.mark.parametrize(
    "source",
    ["nfs://server", "nfs://server/export?debug=9", "nfs://server/export?nfsport=x", "nfs:///export"],
)
def test_an_nfs_source_that_says_too_little_is_refused(destination: Path, source: str) -> None:
    with pytest.raises(UsageError, match="needs a server and an exported directory"):
        open_source(order(source, destination))
