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
import socket
import ssl
import time
from pathlib import Path
from typing import Any

ORDERS = "SLIPWAY_ORDERS"
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

    with socket.create_connection((order["host"], 2049), timeout=SECONDS):
        pass
    Mount(f"nfs://{order['host']}{order['path']}?version=4", timeout_seconds=SECONDS).close()
    return {"told": f"{order['host']} exports {order['path']}"}


_WORK = {
    "write": write,
    "read": read,
    "resolve": resolve,
    "connect": connect,
    "request": request,
    "source": source,
    "export": export,
}

if __name__ == "__main__":
    main()
