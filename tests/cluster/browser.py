"""A real browser: a page in Chromium that calls another origin, and what became of it.

The page reports to the server that it came from, so that nobody has to drive the browser: it is started with the page's
address and ended when the report is there.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest

REPORT_SECONDS = 90
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # The Fetch standard's rule that * is every header but Authorization, which Chromium has had for years and still
    # only warns of unless it is told: other browsers and later versions go by it.
    "--enable-features=CorsNonWildcardRequestHeadersSupport",
)

_PAGE = """<!doctype html>
<title>calls another origin</title>
<script>
(async () => {
  const call = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  let report;
  try {
    const answer = await fetch(call.url, {method: call.method, headers: call.headers, body: call.body});
    report = {status: answer.status, text: await answer.text()};
  } catch (error) {
    report = {refused: String(error)};
  }
  await fetch("/report", {method: "POST", body: JSON.stringify(report)});
})();
</script>
"""


class _Handler(BaseHTTPRequestHandler):
    reports: queue.Queue[dict[str, Any]]

    def do_GET(self) -> None:
        body = _PAGE.encode() if self.path == "/" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        type(self).reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class Page:
    """A page of one origin, ``origin``, in a browser that finds names where it is told to."""

    def __init__(self, *, origin: str, reports: queue.Queue[dict[str, Any]], flags: list[str]) -> None:
        self.origin, self._reports, self._flags = origin, reports, flags

    def calls(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What the page's call gave: ``status`` and ``text``, or ``refused`` with the browser's word for it."""
        call = {
            "url": url,
            "method": "GET" if body is None else "POST",
            "headers": dict(headers or {}),
            "body": None if body is None else json.dumps(body),
        }
        # Its helpers write into the profile for a moment longer than it lives.
        with tempfile.TemporaryDirectory(prefix="slipway-chromium-", ignore_cleanup_errors=True) as profile:
            log = Path(profile) / "log"
            with log.open("wb") as output:
                browser = subprocess.Popen(
                    [
                        chromium(),
                        *OPTIONS,
                        *self._flags,
                        f"--user-data-dir={profile}/profile",
                        f"{self.origin}/#{quote(json.dumps(call))}",
                    ],
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            try:
                return self._reports.get(timeout=REPORT_SECONDS)
            except queue.Empty:
                end = log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"the page has not reported after {REPORT_SECONDS} s: {end}") from None
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()


def chromium() -> str:
    """The browser; ``make test`` installs Debian's."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("Chromium is not installed: `make setup-tests` installs it on Debian", pytrace=False)
    return cast(str, found)


@contextmanager
def page(*, names: Mapping[str, str], trusted_key: str | None = None) -> Iterator[Page]:
    """Serve a page from an origin of its own.

    Args:
        names: addresses by host name or pattern, in place of DNS.
        trusted_key: base64 SHA-256 of a public key whose certificates the browser takes, whoever signed them.
    """
    reports: queue.Queue[dict[str, Any]] = queue.Queue()
    handler = type("Handler", (_Handler,), {"reports": reports})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    rules = ", ".join(f"MAP {name} {address}" for name, address in names.items())
    flags = [f"--host-resolver-rules={rules}"]
    if trusted_key:
        flags.append(f"--ignore-certificate-errors-spki-list={trusted_key}")
    try:
        yield Page(origin=f"http://127.0.0.1:{server.server_port}", reports=reports, flags=flags)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
