"""What a run was asked for: by whom, and what is refused before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from slipway.errors import UsageError

if TYPE_CHECKING:
    from airflow.sdk import Context


def actor_of(context: Context) -> str:
    """Who started the run: Airflow's triggering user, never a field of the request."""
    run = context["dag_run"]
    return getattr(run, "triggering_user_name", None) or str(run.run_type)


def refuse_unknown_conf(context: Context) -> None:
    """Refuse a key of the run's conf that is no parameter: Airflow itself ignores a typing error silently.

    Raises:
        UsageError: names the key and the parameters that there are.
    """
    declared = set(context["dag"].params)
    unknown = sorted(set(context["dag_run"].conf or {}) - declared)
    if unknown:
        raise UsageError(
            "no such parameter",
            about=", ".join(unknown),
            remedy=f"Parameters are: {', '.join(sorted(declared))}",
        )


def refuse_without_fernet_key() -> None:
    """Refuse to run where Airflow would write connections and triggers in clear.

    Raises:
        UsageError: no Fernet key is set.
    """
    if not conf.get("core", "fernet_key", fallback=""):
        raise UsageError(
            "Airflow has no Fernet key",
            why="connections and deferred triggers would lie in its database in clear",
            remedy="Set AIRFLOW__CORE__FERNET_KEY for all of Airflow's services",
        )
