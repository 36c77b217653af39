"""How long the regular probes of 1,000 endpoints take in one process, and how much memory that takes.

Each endpoint is a stand-in that answers like vLLM after a short while, all in one server process on this machine. The
peer sends the very same requests with nothing around them: one httpx.AsyncClient with as many connections. What is
more is the probe's own work: it reads, checks and words every answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import socket
import time
from collections.abc import Callable
from typing import Any

ENDPOINTS = 1000
AT_ONCE = 16
SECONDS_AN_ANSWER = 0.05
TOKENS = 16
KEY = "key"
EVENTS = [
    *({"choices": [{"delta": {"content": f"word{n} "}}]} for n in range(TOKENS)),
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
]


def main() -> int:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = multiprocessing.get_context("fork").Process(target=_serve, args=(listener,), daemon=True)
        server.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        own = _measured(_watch, address, options.endpoints)
        peer = _measured(_plainly, address, options.endpoints)
        server.terminate()
        server.join()
    figures = {
        "benchmark": "watch",
        "endpoints": options.endpoints,
        "at_once": AT_ONCE,
        **own,
        "peer": "the same requests with httpx.AsyncClient alone",
        **{f"peer_{name}": value for name, value in peer.items()},
        "wall_ratio": round(own["seconds"] / peer["seconds"], 2),
    }
    print(json.dumps(figures))
    return 0


def _measured(work: Callable[[str, int], None], address: str, endpoints: int) -> dict[str, float]:
    """Time, processor time and the largest memory of some work in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_in_child, args=(work, address, endpoints, results))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit("the work in the child process failed; its last lines say why")
    figures: dict[str, float] = results.get()
    return figures


def _in_child(work: Callable[[str, int], None], address: str, endpoints: int, results: Any) -> None:
    started = time.monotonic()
    work(address, endpoints)
    used = resource.getrusage(resource.RUSAGE_SELF)
    results.put(
        {
            "seconds": round(time.monotonic() - started, 2),
            "cpu_s": round(used.ru_utime + used.ru_stime, 2),
            "peak_mib": round(used.ru_maxrss / 1024, 1),
        }
    )


def _watch(address: str, endpoints: int) -> None:
    import os

    from slipway.probes.orders import ProbeOrder, WatchedEndpoint, WatchOrder
    from slipway.probes.watch import watch

    os.environ["SLIPWAY_API_KEY"] = KEY
    order = ProbeOrder(base_url=address, served_name="m")
    watched = [WatchedEndpoint(endpoint=f"endpoint-{n}", probe=order) for n in range(endpoints)]
    result = watch(WatchOrder(endpoints=watched, at_once=AT_ONCE), say=lambda line: None)
    assert (result.probed, result.failing) == (endpoints, 0), result


def _plainly(address: str, endpoints: int) -> None:
    asyncio.run(_ask_all(address, endpoints))


async def _ask_all(address: str, endpoints: int) -> None:
    import httpx

    slots = asyncio.Semaphore(AT_ONCE)
    chat = {"model": "m", "messages": [], "stream": True}
    requests: list[tuple[str, str, dict[str, Any] | None, str]] = [
        ("GET", "/health", None, KEY),
        ("GET", "/v1/models", None, KEY),
        ("GET", "/v1/models", None, "wrong"),
        ("POST", "/v1/completions", {"model": "m"}, KEY),
        ("POST", "/v1/chat/completions", chat, KEY),
        ("GET", "/metrics", None, KEY),
        ("POST", "/v1/completions", {"model": "m"}, KEY),
    ]

    async def ask() -> None:
        async with slots:
            for method, path, body, key in requests:
                headers = {"Authorization": f"Bearer {key}"}
                await client.request(method, address + path, json=body, headers=headers)

    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
        await asyncio.gather(*(ask() for _ in range(endpoints)))


def _serve(listener: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(_answer, log_level="error", access_log=False))
    asyncio.run(server.serve(sockets=[listener]))


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request as vLLM would."""
    if scope["type"] != "http":
        return
    path, body = scope["path"], b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    body += message.get("body", b"")
    status, text = 200, b""
    if path == "/metrics":
        text = b"vllm:num_requests_running 0\n"
    elif path != "/health" and dict(scope["headers"]).get(b"authorization") != f"Bearer {KEY}".encode():
        status = 401
    elif path == "/v1/models":
        text = json.dumps({"data": [{"id": "m"}]}).encode()
    elif path != "/health":
        await asyncio.sleep(SECONDS_AN_ANSWER)
        if json.loads(body).get("stream"):
            text = (
                b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in EVENTS) + b"data: [DONE]\n\n"
            )
        else:
            done = {"choices": [{"text": "words"}], "usage": {"completion_tokens": TOKENS}}
            text = json.dumps(done).encode()
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": text})


if __name__ == "__main__":
    raise SystemExit(main())
