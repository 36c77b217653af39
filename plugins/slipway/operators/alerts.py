"""Telling people that an endpoint has changed: by mail, to Slack, or to any address that takes JSON."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from slipway.errors import SlipwayError, bounded
from slipway.releases.lines import line_of
from slipway.releases.records import DriftRecord, StateRecord

if TYPE_CHECKING:
    from airflow.sdk import Context

ALERT_CONNECTION = "slipway_alerts"
Change = StateRecord | DriftRecord
_SECONDS = 15.0


class AlertNotifier(BaseNotifier):
    """Tell a change of state, or what somebody changed since the release.

    It goes through one Airflow connection; where there is none, only the log says it.

    The connection's type says how, with the fields that Airflow's own providers use:

    - ``smtp``: host, port (465, or 587 without SSL), login, password; in its extras ``to_email`` (a text or a list),
      ``from_email``, ``disable_ssl``, ``disable_tls`` (STARTTLS is used when SSL is not), and ``ssl_context``:
      ``none`` for a server whose certificate nobody vouches for. Others are verified; an authority of one's own is
      named by the environment's ``SSL_CERT_FILE``.
    - ``slackwebhook``: the webhook's token as password; host defaults to Slack's.
    - ``http``: host with schema and port; in its extras ``endpoint`` (the path) and ``headers``; a password without a
      login is sent as a bearer token. The body is the change as JSON, with a line ``text`` for people.

    Like any notifier it can be called with Airflow's context; the change is its key ``change``.
    """

    def __init__(self, *, connection: str = ALERT_CONNECTION) -> None:
        super().__init__()
        self.connection = connection

    def notify(self, context: Context) -> None:
        """Tell the change.

        Raises:
            SlipwayError: nobody could be told.
        """
        change: Change = context["change"]  # type: ignore[typeddict-item]  # the caller put it there
        try:
            connection = Connection.get(self.connection)
        except AirflowNotFoundException:
            self.log.info("no connection %s: nobody is told of: %s", self.connection, line_of(change))
            return
        senders = {"smtp": _by_mail, "email": _by_mail, "slackwebhook": _to_slack, "http": _to_address}
        sender = senders.get(connection.conn_type or "")
        if sender is None:
            raise SlipwayError(
                "alerts cannot be sent through this connection",
                about=f"{self.connection}, of type {connection.conn_type}",
                remedy="Use one of type smtp, slackwebhook or http",
            )
        try:
            sender(connection, change)
        except (
            Exception
        ) as error:  # a mail server has its own kinds of errors, a connection's fields have others
            raise SlipwayError(
                "the alert could not be sent", about=self.connection, why=bounded(str(error))
            ) from error
        self.log.info("told through %s: %s", self.connection, line_of(change))


def _subject(change: Change) -> str:
    if isinstance(change, StateRecord):
        return f"Slipway: {change.endpoint} is {change.state}"
    return f"Slipway: {change.endpoint} is {'not ' if change.differences else ''}as it was released"


def _by_mail(connection: Any, change: Change) -> None:
    extra = connection.extra_dejson
    to = extra.get("to_email")
    if not to:
        raise SlipwayError("nobody is named", remedy="Write to_email into the connection's extras")
    message = EmailMessage()
    message["Subject"] = _subject(change)
    message["From"] = extra.get("from_email") or connection.login
    message["To"] = ", ".join(to) if isinstance(to, list) else to
    message.set_content(line_of(change))
    with _mail_server(connection, extra) as server:
        if connection.login and connection.password:
            server.login(connection.login, connection.password)
        server.send_message(message)


def _mail_server(connection: Any, extra: dict[str, Any]) -> smtplib.SMTP:
    """Connect, encrypted unless the connection says otherwise; whoever is there is asked for a certificate."""
    trust = ssl.create_default_context()
    if extra.get("ssl_context") == "none":
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    if not extra.get("disable_ssl", False):
        return smtplib.SMTP_SSL(connection.host, connection.port or 465, timeout=_SECONDS, context=trust)
    server = smtplib.SMTP(connection.host, connection.port or 587, timeout=_SECONDS)
    if not extra.get("disable_tls", False):
        try:
            server.starttls(context=trust)
        except Exception:
            server.close()
            raise
    return server


def _to_slack(connection: Any, change: Change) -> None:
    host = connection.host or "https://hooks.slack.com/services"
    _post(f"{host.rstrip('/')}/{connection.password}", {"text": line_of(change)}, {})


def _to_address(connection: Any, change: Change) -> None:
    host = connection.host
    base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    address = f"{base.rstrip('/')}:{connection.port}" if connection.port else base.rstrip("/")
    extra = connection.extra_dejson
    headers = dict(extra.get("headers") or {})
    if connection.password and not connection.login:
        headers["Authorization"] = f"Bearer {connection.password}"
    body = {**change.model_dump(mode="json", exclude={"id", "alerted"}), "text": line_of(change)}
    _post(f"{address}/{str(extra.get('endpoint') or '').lstrip('/')}", body, headers)


def _post(address: str, body: dict[str, Any], headers: dict[str, str]) -> None:
    import httpx

    answer = httpx.post(address, json=body, headers=headers, timeout=_SECONDS)
    if not answer.is_success:
        # Never the address: a webhook's is its password.
        raise SlipwayError(
            "the receiver refused it", why=f"status {answer.status_code}: {bounded(answer.text)}"
        )
