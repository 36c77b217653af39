"""Telling people that an endpoint has changed: by mail, to Slack, or to any address that takes JSON."""

from __future__ import annotations

import smtplib
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

    - ``smtp``: host, port, login, password; in its extras ``from_email``, ``to_email`` (a text or a list),
      ``disable_ssl`` and ``disable_tls`` (STARTTLS is used when SSL is not).
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
    to = extra["to_email"]
    message = EmailMessage()
    message["Subject"] = _subject(change)
    message["From"] = extra.get("from_email") or connection.login
    message["To"] = ", ".join(to) if isinstance(to, list) else to
    message.set_content(line_of(change))
    ssl = not extra.get("disable_ssl", False)
    kind = smtplib.SMTP_SSL if ssl else smtplib.SMTP
    with kind(connection.host, connection.port or (465 if ssl else 25), timeout=_SECONDS) as server:
        if not ssl and not extra.get("disable_tls", False):
            server.starttls()
        if connection.login and connection.password:
            server.login(connection.login, connection.password)
        server.send_message(message)


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
