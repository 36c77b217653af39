"""What a pod of the active checks does: it tries things out and leaves what came of them.

This file is carried into the pod as text (``python3 -c``), so that looking around needs no other tools image than the
one that a cluster already has. It uses Python's own library, and the package's sources where an order names one. Each
order is a mapping with ``do`` and what that needs; its answer is ``{"ok": bool, "told": text, …}``.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any

ORDERS = "SLIPWAY_ORDERS"
HOST = "/host"
RESULT = "SLIPWAY_RESULT"
LONGEST = 220
SECONDS = 10.0
_BLOCK = 1 << 20


def main() -> None:
    """Carry out the orders of the environment, one after the other; a failed one does not end the rest."""
    answers = [carry_out(order) for order in json.loads(os.environ[ORDERS])]
    text = json.dumps(answers, ensure_ascii=True, separators=(",", ":"))
    Path(os.environ.get(RESULT, "/dev/termination-log")).write_text(text, encoding="utf-8")


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    try:
        return {"ok": True, **_WORK[order["do"]](order)}
    except Exception as error:  # whatever it is, it is the answer
        told = str(error) or type(error).__name__
        return {"ok": False, "told": told[:LONGEST], "kind": type(error).__name__}


def write(order: dict[str, Any]) -> dict[str, Any]:
    """Write a file, make it last, give it its name, and read it back past the page cache."""
    path, size = Path(order["path"]), int(order["bytes"])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, block, digest = path.with_suffix(".partial"), os.urandom(_BLOCK), hashlib.sha256()
    started = time.monotonic()
    with partial.open("wb") as file:
        for _ in range(size // _BLOCK):
            file.write(block)
            digest.update(block)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    written = time.monotonic() - started
    found, seconds = _read(path)
    if found != digest.hexdigest():
        raise OSError("what was read is not what was written")
    return {
        "told": "written, fsynced, renamed, read back",
        "sha256": found,
        "write": size / written,
        "read": size / seconds,
    }


def read(order: dict[str, Any]) -> dict[str, Any]:
    """Read a file that another pod wrote."""
    path = Path(order["path"])
    found, seconds = _read(path)
    if found != order["sha256"]:
        raise OSError("what was read is not what the other pod wrote")
    return {"told": "read what the other pod wrote", "read": path.stat().st_size / seconds}


def _read(path: Path) -> tuple[str, float]:
    digest, started = hashlib.sha256(), time.monotonic()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest(), max(time.monotonic() - started, 1e-6)


def resolve(order: dict[str, Any]) -> dict[str, Any]:
    """Resolve a name as programs in pods do."""
    found = {info[4][0] for info in socket.getaddrinfo(order["name"], None, type=socket.SOCK_STREAM)}
    return {"told": f"{order['name']} is {', '.join(sorted(map(str, found)))}"[:LONGEST]}


def connect(order: dict[str, Any]) -> dict[str, Any]:
    """Open a connection and close it."""
    with socket.create_connection((order["host"], int(order["port"])), timeout=SECONDS):
        return {"told": f"{order['host']}:{order['port']} takes connections"}


def request(order: dict[str, Any]) -> dict[str, Any]:
    """Send a GET; any HTTP answer will do, whatever its status. Certificates are the Gateway's check."""
    place, name = (order["host"], int(order["port"])), order.get("name") or order["host"]
    raw = socket.create_connection(place, timeout=SECONDS)
    if order["scheme"] == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = context.wrap_socket(raw, server_hostname=name)
    with raw:
        raw.sendall(f"GET {order['path']} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        return {"told": f"{order['scheme']} {order['host']}:{place[1]} answers with {answer.status}"}


def greet(order: dict[str, Any]) -> dict[str, Any]:
    """Hear whether a MySQL or Redis server is ready to serve; without logging in."""
    place = f"{order['host']}:{order['port']}"
    with socket.create_connection((order["host"], int(order["port"])), timeout=SECONDS) as raw:
        if order["protocol"] == "redis":
            raw.sendall(b"PING\r\n")
            reply = raw.recv(200).decode("utf-8", "replace").strip()
            if not reply.startswith(("+PONG", "-NOAUTH")):
                raise OSError(f"{place} answers {reply or 'nothing'}")
            return {"told": f"{place} answers" + (", and asks for a password" if reply[0] == "-" else "")}
        answer = raw.recv(1024)
    # A packet is three bytes of length, its number, then the protocol's version, or 255 and an error's number.
    if len(answer) < 6 or answer[4] == 255:
        raise OSError(f"{place} refuses: {answer[7:].decode('utf-8', 'replace') or 'it says nothing'}")
    version = answer[5:].partition(b"\0")[0].decode("utf-8", "replace")
    return {"told": f"{place} is {version}"}


def host(order: dict[str, Any]) -> dict[str, Any]:
    """Read off a node's files which C library it has and which container runtime is its default."""
    root = Path(order.get("root", HOST))
    return {"told": "read", "glibc": _glibc(root), "runtime": _default_runtime(root)}


def _glibc(root: Path) -> str:
    """The version that the library names itself; "" where there is none (musl, another place)."""
    for pattern in ("lib64", "usr/lib64", "usr/lib", "lib", "usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"):
        for folder in sorted(root.glob(pattern)):
            try:
                text = _within(root, folder / "libc.so.6").read_bytes()
            except OSError:
                continue
            if found := re.search(rb"GNU C Library [^\n\0]*version (\d+\.\d+)", text):
                return found[1].decode()
    return ""


def _within(root: Path, path: Path) -> Path:
    """Follow a link as the node would: an absolute one starts at the node's root, not at the pod's."""
    for _ in range(8):
        if not path.is_symlink():
            break
        target = path.readlink()
        path = root / target.relative_to("/") if target.is_absolute() else path.parent / target
    return path


def _default_runtime(root: Path) -> str:
    """The default runtime by containerd's, Docker's or CRI-O's configuration; "" where none names one."""
    names = (
        ("etc/containerd/config.toml", r"default_runtime_name\s*=\s*[\"']([^\"']+)"),
        ("etc/docker/daemon.json", r"\"default-runtime\"\s*:\s*\"([^\"]+)"),
        ("etc/crio/crio.conf", r"(?m)^\s*default_runtime\s*=\s*[\"']([^\"']+)"),
    )
    for name, pattern in names:
        try:
            text = _within(root, root / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if found := re.search(pattern, text):
            return found[1]
    return ""


def source(order: dict[str, Any]) -> dict[str, Any]:
    """List what a source holds, without downloading it."""
    from slipway.weights.orders import FetchOrder
    from slipway.weights.sources import open_source

    found = open_source(FetchOrder.model_validate(order["order"])).manifest()
    size = sum(entry.size for entry in found.files)
    return {"told": f"{len(found.files)} files, {size} bytes"}


def export(order: dict[str, Any]) -> dict[str, Any]:
    """Mount an NFS export in user space, and give it up."""
    from slipway.weights.sources.libnfs import Mount

    port = int(order.get("port", 2049))
    with socket.create_connection((order["host"], port), timeout=SECONDS):
        pass
    Mount(f"nfs://{order['host']}{order['path']}?version=4&nfsport={port}", timeout_seconds=SECONDS).close()
    return {"told": f"{order['host']} exports {order['path']}"}


_WORK = {
    "write": write,
    "read": read,
    "resolve": resolve,
    "connect": connect,
    "request": request,
    "source": source,
    "greet": greet,
    "host": host,
    "export": export,
}

if __name__ == "__main__":
    main()
