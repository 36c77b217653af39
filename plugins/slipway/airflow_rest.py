"""Airflow's REST API as the terminal uses it: log in, trigger a run, follow it, read why it failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from slipway.errors import SlipwayError, UsageError, bounded

FINISHED = ("success", "failed")
# What a failed step leaves, by operators/notes.py, which imports Airflow.
FAILURE, REFUSED = "failure", "refused"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        failures: one line of each step that failed, the first failure first.
        refused: the first of them refused what the run asked for: a mistake of whoever asked.
    """

    run_id: str
    state: str
    seconds: float
    failures: list[str] = field(default_factory=list)
    refused: bool = False


class AirflowRest:
    """A session with one Airflow; ``with`` ends its connections."""

    def __init__(self, *, url: str, user: str, password: str, timeout: float = 30.0) -> None:
        self.url, self.user, self.password = url.rstrip("/"), user, password
        self.client = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)
        self._token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> AirflowRest:
        """Open the Airflow that SLIPWAY_AIRFLOW_URL, _USER and _PASSWORD name.

        Raises:
            UsageError: one of them is not set.
        """
        environment = os.environ if environment is None else environment
        names = ("SLIPWAY_AIRFLOW_URL", "SLIPWAY_AIRFLOW_USER", "SLIPWAY_AIRFLOW_PASSWORD")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise UsageError(
                "Airflow's address or login is not known",
                why=f"not set: {', '.join(missing)}",
                remedy="Set them; `make status` prints the sandbox's",
            )
        url, user, password = (environment[name] for name in names)
        return AirflowRest(url=url, user=user, password=password)

    def trigger(self, dag_id: str, conf: Mapping[str, Any], *, run_id: str | None = None) -> str:
        """Trigger a run and return its id. With ``run_id`` the same call twice makes one run.

        Raises:
            UsageError: Airflow refuses a value or knows no such DAG, in Airflow's own words; or ``run_id`` was used
                for a run that asked for something else.
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf)}
        if run_id:
            body["dag_run_id"] = run_id
        response = self._request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if response.status_code == 409 and run_id:
            self._refuse_other(dag_id, run_id, conf)
            return run_id
        if response.status_code in (400, 404, 409, 422):
            raise UsageError("Airflow refuses the run", about=dag_id, why=_detail(response))
        self._raise_for(response)
        return str(response.json()["dag_run_id"])

    def _refuse_other(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        known = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}").get("conf") or {}
        if known != dict(conf):
            raise UsageError(
                "the key was used already, for a run that asked for something else",
                about=f"{dag_id} {run_id}",
                why="different: "
                + ", ".join(
                    sorted(key for key in known.keys() | conf.keys() if known.get(key) != conf.get(key))
                ),
                remedy="Use another key",
            )

    def follow(
        self,
        dag_id: str,
        run_id: str,
        *,
        say: Callable[[str], None],
        seconds: float = 24 * 3600,
        every: float = 1.0,
    ) -> Outcome:
        """Follow a run to its end, saying each step's change of state once.

        Raises:
            SlipwayError: the run does not end in time.
        """
        started, seen = time.monotonic(), dict[str, str]()
        while True:
            state = self.run_state(dag_id, run_id)
            for step in self.steps(dag_id, run_id):
                name, now = _step_name(step), step["state"] or "none"
                if seen.get(name) != now and now not in ("none", "scheduled", "queued"):
                    duration = f" {step['duration']:.1f} s" if step.get("duration") else ""
                    say(f"{name}: {now}{duration if now in FINISHED else ''}")
                seen[name] = now
            elapsed = time.monotonic() - started
            if state in FINISHED:
                failed = [] if state == "success" else self._failed(dag_id, run_id)
                return Outcome(
                    run_id=run_id,
                    state=state,
                    seconds=elapsed,
                    failures=[self._why(dag_id, run_id, step) for step in failed],
                    refused=bool(failed) and self._left(dag_id, run_id, failed[0], REFUSED) is True,
                )
            if elapsed > seconds:
                raise SlipwayError("the run has not ended in time", about=f"{dag_id} {run_id}", why=state)
            time.sleep(every)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        return str(self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def steps(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run, in the order in which they started."""
        page = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 500})
        return sorted(page["task_instances"], key=lambda step: step["start_date"] or "9")

    def failures(self, dag_id: str, run_id: str) -> list[str]:
        """One line of each failed step of a run, as the step itself gave it."""
        return [self._why(dag_id, run_id, step) for step in self._failed(dag_id, run_id)]

    def _failed(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return [step for step in self.steps(dag_id, run_id) if step["state"] == "failed"]

    def _why(self, dag_id: str, run_id: str, step: Mapping[str, Any]) -> str:
        reason = self._left(dag_id, run_id, step, FAILURE) or "see the task's log"
        return f"{_step_name(step)}: {reason}"

    def _left(self, dag_id: str, run_id: str, step: Mapping[str, Any], key: str) -> Any:
        """What a step left under a key, or None."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{step['task_id']}/xcomEntries/{key}"
        response = self._request("GET", path, params={"map_index": step["map_index"]})
        return response.json()["value"] if response.is_success else None

    def log(self, dag_id: str, run_id: str, step: str, *, attempt: int = 1) -> str:
        """The log of a step's attempt as text."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{step}/logs/{attempt}"
        content = self.get(path, params={"full_content": True})["content"]
        if isinstance(content, str):
            return content
        return "\n".join(
            str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content
        )

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """GET a JSON document."""
        response = self._request("GET", path, params=params)
        self._raise_for(response)
        return response.json()

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        for attempt in (1, 2):
            if not self._token:
                self._log_in()
            headers = {"Authorization": f"Bearer {self._token}"}
            response = self._send(method, path, headers=headers, **kwargs)
            if response.status_code != 401 or attempt == 2:
                return response
            self._token = ""
        raise AssertionError("unreachable")

    def _log_in(self) -> None:
        response = self._send("POST", "/auth/token", json={"username": self.user, "password": self.password})
        if response.status_code == 401:
            raise UsageError("Airflow refuses the login", about=f"{self.user} at {self.url}")
        self._raise_for(response)
        self._token = response.json()["access_token"]

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        error: Exception | None = None
        for _ in range(5):
            try:
                return self.client.request(method, path, **kwargs)
            except httpx.ConnectError as caught:
                error = caught
                break
            except httpx.TransportError as caught:
                error = caught
                if method != "GET":
                    break
                time.sleep(1)
        raise SlipwayError(
            "Airflow cannot be reached",
            about=self.url,
            why=bounded(str(error)) or type(error).__name__,
            remedy="Is it running? `make status` tells of the sandbox",
        ) from error

    def _raise_for(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        raise SlipwayError(
            "Airflow answers with an error",
            about=f"{response.request.method} {response.request.url.path}",
            why=f"HTTP {response.status_code}: {_detail(response)}",
        )


def _step_name(step: Mapping[str, Any]) -> str:
    index = step.get("map_index", -1)
    return f"{step['task_id']}[{index}]" if index is not None and index >= 0 else str(step["task_id"])


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return bounded(response.text)
    if isinstance(detail, list):
        return bounded("; ".join(f"{'.'.join(map(str, d.get('loc', [])))}: {d.get('msg')}" for d in detail))
    return bounded(detail if isinstance(detail, str) else str(detail))
