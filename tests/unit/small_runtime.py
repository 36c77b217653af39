"""A small server with an OpenAI-compatible runtime's behaviour, of which a test changes some."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-the-right-key"
NAME = "qwen3-tiny"


@dataclass
class Reply:
    """What the server does with one request: a status and a body, or it dies."""

    status: int = 200
    body: Any = None
    events: list[str] | None = None
    die: bool = False


@dataclass
class Runtime:
    """A small server with an OpenAI-compatible runtime's behaviour, of which a test changes some.

    Attributes:
        replies: what it does on a path instead, if that is not None.
        name: the model that it says it serves.
        key: the API key that it asks for; None takes any.
    """

    replies: dict[str, Callable[[dict[str, Any]], Reply | None]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    seen_keys: list[str] = field(default_factory=list)
    dead: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    # Read when it is made: in a pod, NAME and KEY come from the environment.
    name: str = field(default_factory=lambda: NAME)
    key: str | None = field(default_factory=lambda: KEY)

    def answer(self, path: str, body: dict[str, Any], key: str) -> Reply:
        self.counts[path] = self.counts.get(path, 0) + 1
        if self.dead:
            return Reply(die=True)
        changed = self.replies.get(path)
        if changed is not None and (reply := changed(body)) is not None:
            self.dead = self.dead or reply.die
            return reply
        if path == "/health":
            return Reply()
        if path == "/metrics":
            return Reply(body='# HELP x\nvllm:num_requests_running{model_name="m"} 0.0\nup 1\n')
        if self.key is not None and key != f"Bearer {self.key}":
            return Reply(401, {"error": "Unauthorized"})
        return self.standard(path, body)

    def standard(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/v1/models":
            return Reply(body={"data": [{"id": self.name}]})
        if path == "/v1/embeddings":
            return Reply(body={"data": [{"embedding": [0.1, 0.2]}]})
        if path == "/v1/images/generations":
            return Reply(body={"data": [{"b64_json": "iVBORw0KGgo="}]})
        if body.get("stream"):
            delta = (
                (lambda text: {"text": text})
                if path == "/v1/completions"
                else (lambda text: {"delta": {"content": text}})
            )
            chunks = [delta("A slip"), delta("way."), delta("") | {"finish_reason": "stop"}]
            return Reply(events=[json.dumps({"choices": [chunk]}) for chunk in chunks] + ["[DONE]"])
        return Reply(body={"choices": [{"text": " are launched"}], "usage": {"completion_tokens": 2}})


class Handler(BaseHTTPRequestHandler):
    runtime: Runtime

    def do_GET(self) -> None:
        self.reply({})

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, body: dict[str, Any]) -> None:
        self.runtime.requests.append((self.command, self.path))
        key = self.headers.get("Authorization", "")
        self.runtime.seen_keys.append(key)
        answer = self.runtime.answer(self.path, body, key)
        if answer.die:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status)
        if answer.events is not None:
            self.end_headers()
            for event in answer.events:
                self.wfile.write(f"data: {event}\n\n".encode())
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        data = b"" if answer.body is None else text.encode()
        # Proxies in Go may break off an answer of unknown length that begins before they have seen the request's end
        # (golang/go#40747).
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass

    def finish(self) -> None:
        if not self.wfile.closed:
            try:
                super().finish()
            except OSError:
                return


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # many probes at once, each with a connection of its own


def server_of(runtime: Runtime, *, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    server = Server((host, port), type("HandlerOfOne", (Handler,), {"runtime": runtime}))
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    return server


@contextmanager
def serve(runtime: Runtime) -> Iterator[str]:
    server = server_of(runtime)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
