"""The serving pod of the scenarios: ``small_runtime`` as a program, with one fault. Runs in the tools image.

What it prints before it ends are lines that vLLM 0.32 and PyTorch print when they end for that reason.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_runtime import Reply, Runtime, server_of

DRIVER = (
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
    "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)


def ends_with(text: str) -> Callable[[], None]:
    def end() -> None:
        print(text, file=sys.stderr, flush=True)
        raise SystemExit(1)

    return end


def port_in_use() -> None:
    with socket.create_server(("", 8000)):
        socket.create_server(("", 8000))


def missing_file() -> None:
    Path("/data/serving-model/tokenizer.model").read_bytes()


def too_much_memory() -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20) * 8))


AT_START: dict[str, Callable[[], None]] = {
    "driver": ends_with(DRIVER),
    "unknown-words": ends_with("the gizmo has lost its sprocket"),
    "done": lambda: sys.exit(0),
    "port": port_in_use,
    "file": missing_file,
    "memory": too_much_memory,
}


def answers(path: str, reply: Reply) -> dict[str, Any]:
    return {"replies": {path: lambda body: reply}}


AT_REQUESTS: dict[str, dict[str, Any]] = {
    "unhealthy": answers("/health", Reply(503, {"error": "engine is dead"})),
    "other-name": {"name": "somebody-elses-model"},
    "any-key": {"key": None},
    "empty": answers(
        "/v1/completions", Reply(body={"choices": [{"text": ""}], "usage": {"completion_tokens": 0}})
    ),
    "dies": answers("/v1/completions", Reply(die=True)),
    "no-template": answers(
        "/v1/chat/completions",
        Reply(
            400,
            {
                "error": {
                    "message": "default chat template is no longer allowed, so you must provide a chat template"
                }
            },
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="api_server.py")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--fault", choices=["none", *AT_START, *AT_REQUESTS], default="none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A first process that says nothing of a signal does not get it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    AT_START.get(options.fault, lambda: None)()
    name, key = options.served_model_name, os.environ["SERVER_API_KEY"]
    runtime = Runtime(**{"name": name, "key": key, **AT_REQUESTS.get(options.fault, {})})
    server_of(runtime, host="", port=options.port).serve_forever()


main()
