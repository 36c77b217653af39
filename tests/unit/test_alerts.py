"""Telling people by mail: which servers are believed, and what is said when nobody could be told."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import SlipwayError
from slipway.operators.alerts import ALERT_CONNECTION, AlertNotifier
from slipway.releases.records import StateRecord

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILING = StateRecord(
    id=1,
    endpoint="qwen3-tiny",
    cluster="sandbox",
    state="failing",
    reason="it does not answer",
    release_number=3,
    since=NOW,
    seen=NOW,
    seconds=None,
    ttft_seconds=None,
    alerted=False,
)
PLAIN = {"disable_ssl": True, "disable_tls": True}
STARTTLS = {"disable_ssl": True}
ON_CONNECT: dict[str, Any] = {}
UNTRUSTED = {"ssl_context": "none"}
TO = {"from_email": "slipway@x.test", "to_email": ["a@x.test", "b@x.test"]}


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as one message needs, encrypted on connect or by STARTTLS."""

    server: MailServer

    def setup(self) -> None:
        if self.server.on_connect:
            self._encrypt()
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def _encrypt(self) -> None:
        self.request = self.server.context.wrap_socket(self.request, server_side=True)

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            self._answer(line.decode().strip())

    def _answer(self, line: str) -> None:
        answers = {"EHLO": b"250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", "QUIT": b"221 bye\r\n"}
        match line.upper().split()[0]:
            case "AUTH":
                self.server.keys.append(base64.b64decode(line.split()[-1]).decode())
                self.wfile.write(b"235 ok\r\n")
            case "STARTTLS":
                self.wfile.write(b"220 go on\r\n")
                self._encrypt()
                super().setup()
            case "DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (text := self.rfile.readline().decode()) != ".\r\n":
                    lines.append(text)
                self.server.received.append("".join(lines))
                self.wfile.write(b"250 ok\r\n")
            case word:
                self.wfile.write(answers.get(word, b"250 ok\r\n"))


class MailServer(socketserver.ThreadingTCPServer):
    """Keeps what it was told."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext, *, on_connect: bool) -> None:
        super().__init__(("127.0.0.1", 0), Mail)
        self.context, self.on_connect = context, on_connect
        self.received: list[str] = []
        self.keys: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not believe the certificate hangs up."""


@pytest.fixture
def serve(certificate: tuple[Path, ssl.SSLContext]) -> Iterator[Callable[..., MailServer]]:
    """Start a mail server whose certificate nobody has signed."""
    with ExitStack() as stack:

        def start(*, on_connect: bool) -> MailServer:
            server = stack.enter_context(MailServer(certificate[1], on_connect=on_connect))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell a change through an Airflow connection with these fields."""

    def through(**fields: Any) -> None:
        connection = {"conn_type": "smtp", "host": "127.0.0.1", **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{ALERT_CONNECTION.upper()}", json.dumps(connection))
        AlertNotifier().notify({"change": FAILING})  # type: ignore[typeddict-unknown-key]

    return through


@pytest.mark.parametrize(
    "how", [PLAIN, STARTTLS | UNTRUSTED, ON_CONNECT | UNTRUSTED], ids=["plain", "starttls", "ssl"]
)
def test_a_change_of_state_is_told_by_mail(
    serve: Callable[..., MailServer], tell: Callable[..., None], how: dict[str, Any]
) -> None:
    server = serve(on_connect="disable_ssl" not in how)

    tell(port=server.server_address[1], login="slipway", password="secret", extra={**TO, **how})

    [mail] = server.received
    assert "To: a@x.test, b@x.test" in mail and "Subject: Slipway: qwen3-tiny is failing" in mail
    assert "it does not answer" in mail
    assert server.keys == ["\0slipway\0secret"]


@pytest.mark.parametrize("how", [STARTTLS, ON_CONNECT], ids=["starttls", "ssl"])
def test_a_mail_server_has_to_show_who_it_is_before_it_gets_the_password(
    serve: Callable[..., MailServer],
    tell: Callable[..., None],
    certificate: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, Any],
) -> None:
    server = serve(on_connect="disable_ssl" not in how)
    order = {"port": server.server_address[1], "login": "slipway", "password": "secret"}

    with pytest.raises(
        SlipwayError, match=r"could not be sent \(slipway_alerts\).*certificate verify failed"
    ):
        tell(**order, extra={**TO, **how})
    assert (server.received, server.keys) == ([], [])

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tell(**order, extra={**TO, **how})
    assert len(server.received) == 1


REFUSED = {
    "nobody is named": ({"extra": PLAIN}, r"nobody is named.*Write to_email into the connection's extras"),
    "nobody listens": ({"port": 1, "extra": {**TO, **PLAIN}}, r"Connection refused"),
    "an unknown type": ({"conn_type": "ftp"}, r"of type ftp.*Use one of type smtp, slackwebhook or http"),
}


@pytest.mark.parametrize(("fields", "line"), REFUSED.values(), ids=REFUSED)
def test_who_cannot_be_told_is_one_line_that_says_why(
    tell: Callable[..., None], fields: dict[str, Any], line: str
) -> None:
    with pytest.raises(SlipwayError, match=line) as refused:
        tell(**fields)

    assert "\n" not in str(refused.value)
