"""A server that speaks those endpoints of ModelScope's hub that the real SDK and a download use.

Paths, parameters and the form of answers are those that ``modelscope-hub`` 0.5.1 asks for and reads; that the commit's
whole id is missing while its short one is there, and that files name the commit that touched them, is how clients of
the real hub have recorded its answers. Not rebuilt: other kinds of repositories, and whatever the hub does besides.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

_MODELS = "/api/v1/models/"
_STORE = "/store/"


def commit_id(name: str) -> str:
    """A commit's id."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """A model on the hub.

    Attributes:
        commits: the files of each commit.
        branches: the commit that each name means now.
        tokens: who may read it; None for everybody.
        gated: those who are known and must still agree to conditions.
    """

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    tokens: set[str] | None = None
    gated: set[str] = field(default_factory=set)


@dataclass
class Hub:
    """What the hub holds and what it was asked.

    Attributes:
        expired: tokens that were good once.
        longest_listing: how many entries one answer has at most; the hub says nothing of the others.
        store_host: the name under which the hub's object store is reached: another host, so that a client must not
            send it the hub's token.
        asked: path and parameters of each request.
        before_file: called when a file is asked for, before the token is looked at.
        delivered: called after the store has answered with a file's bytes.
    """

    models: dict[str, Repository]
    expired: set[str] = field(default_factory=set)
    store_host: str = "localhost"
    host: str = "127.0.0.1"
    port: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    seen_by_store: set[str] = field(default_factory=set)
    longest_listing: int = 3000
    before_file: Callable[[], None] = lambda: None
    delivered: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """For ``MODELSCOPE_ENDPOINT``."""
        return f"http://{self.host}:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.hub.asked.append((url.path, query))
        if url.path.startswith(_STORE):
            return self._store(unquote(url.path.removeprefix(_STORE)))
        name, _, call = unquote(url.path.removeprefix(_MODELS)).partition("/repo")
        repository = self.hub.models.get(name)
        if repository is None or not url.path.startswith(_MODELS):
            return self._refuse(404, 10010205001, f"model {name} not exists")
        if call != "/files":
            self.hub.before_file()
        if not self._admitted(repository):
            return None
        commit = repository.branches.get(query.get("Revision", "master"), query.get("Revision", ""))
        if commit not in repository.commits:
            return self._refuse(404, 10010205001, f"revision {query.get('Revision')} not exists")
        if call == "/files":
            return self._files(repository, commit, query)
        path = query.get("FilePath", "")
        if path not in repository.commits[commit]:
            return self._refuse(404, 10010205001, f"file {path} not exists")
        where = quote(f"{name}/{commit}/{path}")
        location = f"http://{self.hub.store_host}:{self.hub.port}{_STORE}{where}"
        return self._send(302, b"", {"Location": location})

    def _admitted(self, repository: Repository) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.hub.expired:
            self._refuse(401, 10010103009, "AccessToken is invalid or expired")
        elif token in repository.gated:
            self._refuse(403, 10010205002, "the model is gated: agree to its conditions first")
        elif repository.tokens is not None and token not in repository.tokens:
            self._refuse(403, 10010205002, "no permission to read the model")
        else:
            return True
        return False

    def _files(self, repository: Repository, commit: str, query: dict[str, str]) -> None:
        root = query["Root"].strip("/") + "/" if query.get("Root") else ""
        deep = query.get("Recursive", "True") == "True"
        files = repository.commits[commit]
        folders = {path.rpartition("/")[0]: None for path in files if "/" in path}
        entries = [
            {
                "Path": path,
                "Name": path.rpartition("/")[2],
                "Type": "tree" if data is None else "blob",
                "Size": len(data or b""),
                "Sha256": "" if data is None else hashlib.sha256(data).hexdigest(),
                "Revision": commit,
            }
            for path, data in {**files, **folders}.items()
            if path.startswith(root) and (deep or "/" not in path.removeprefix(root))
        ]
        listing = {
            "Files": entries[: self.hub.longest_listing],
            "LatestCommitter": {"Id": "", "ShortId": commit[:8]},
        }
        self._send(200, json.dumps({"Code": 200, "Success": True, "Data": listing}).encode())

    def _store(self, where: str) -> None:
        self.hub.seen_by_store.add(self.headers.get("Authorization", "") + self.headers.get("Cookie", ""))
        organisation, model, commit, path = where.split("/", 3)
        data = self.hub.models[f"{organisation}/{model}"].commits[commit][path]
        asked = self.headers.get("Range")
        if asked is None:
            return self._send(200, data)
        start, stop = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        self._send(206, data[start : stop + 1], {"Content-Range": f"bytes {start}-{stop}/{len(data)}"})
        return self.hub.delivered()

    def _refuse(self, status: int, code: int, message: str) -> None:
        body = {"Code": code, "Success": False, "Message": message, "RequestId": "0"}
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests look at what was asked."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the server for the duration of a block."""
    server = ThreadingHTTPServer((hub.host, hub.port), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
