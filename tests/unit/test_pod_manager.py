"""A step's pod that ends soon is waited for where the step runs; one that does not is left to the triggerer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError, ProtocolError

from slipway.operators import pod_manager
from slipway.operators.pod_manager import QuickPodManager, wait_in_worker


class Scripted(QuickPodManager):
    """Sees a pod go through phases, one for each look."""

    def __init__(self, *phases: str) -> None:
        self.phases = list(phases)

    def read_pod(self, pod: Any) -> Any:
        phase = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        status = SimpleNamespace(phase=phase, container_statuses=[], init_container_statuses=[])
        return SimpleNamespace(metadata=SimpleNamespace(name="p", namespace="n"), status=status)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(pod_manager.time, "sleep", made.append)
    return made


@pytest.mark.parametrize("end", ["Succeeded", "Failed"])
def test_a_pod_that_ends_soon_is_seen_to(end: str, pauses: list[float]) -> None:
    assert wait_in_worker(Scripted("Pending", "Running", end), None, seconds=60).status.phase == end
    assert pauses == [pod_manager.LOOK_SECONDS] * 2


def test_a_pod_that_goes_on_is_looked_at_once_without_patience(pauses: list[float]) -> None:
    assert wait_in_worker(Scripted("Running"), None, seconds=-1).status.phase == "Running"
    assert pauses == []


def test_the_end_of_a_pod_is_looked_for_more_often_than_the_provider_does(pauses: list[float]) -> None:
    found = Scripted("Running", "Running", "Succeeded").await_pod_completion(None)
    assert found.status.phase == "Succeeded"
    assert set(pauses) == {pod_manager.LOOK_SECONDS}


POD = SimpleNamespace(metadata=SimpleNamespace(name="p", namespace="n"))


def as_it_is(phase: str) -> Any:
    state = SimpleNamespace(running=phase == "Running" or None, terminated=None, waiting=None)
    container = SimpleNamespace(name="step", state=state)
    status = SimpleNamespace(phase=phase, container_statuses=[container], init_container_statuses=[])
    return SimpleNamespace(status=status)


class Api:
    """A client of an API server that answers as it is told, the last time and again."""

    def __init__(self, *, pods: list[Any] = (), logs: list[Any] = ()) -> None:  # type: ignore[assignment]
        self.pods, self.logs = list(pods), list(logs)

    def read_namespaced_pod(self, *_: Any) -> Any:
        return self._next(self.pods)

    def read_namespaced_pod_log(self, **_: Any) -> Any:
        return self._next(self.logs)

    def _next(self, answers: list[Any]) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


AWAY: dict[str, Callable[[], Exception]] = {
    "no connection": lambda: ProtocolError("Connection aborted."),
    "its roles are not read": lambda: ApiException(status=403, reason="Forbidden"),
    "overloaded": lambda: ApiException(status=503, reason="Service Unavailable"),
}


@pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
def test_a_pod_is_not_given_up_while_the_api_server_is_away(away: Callable[[], Exception]) -> None:
    api = Api(pods=[*(away() for _ in range(20)), as_it_is("Succeeded")])
    assert QuickPodManager(kube_client=api).read_pod(POD).status.phase == "Succeeded"


def test_an_api_server_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_manager, "PATIENCE_SECONDS", -1)
    with pytest.raises(KubernetesApiException, match=r"Connection aborted"):
        QuickPodManager(kube_client=Api(pods=[ProtocolError("Connection aborted.")])).read_pod(POD)


def test_a_pod_that_is_gone_is_not_waited_for(pauses: list[float]) -> None:
    with pytest.raises(ApiException):
        QuickPodManager(kube_client=Api(pods=[ApiException(status=404)])).read_pod(POD)
    assert pauses == []


def test_a_log_that_a_kubelet_does_not_give_is_asked_for_again_while_the_container_runs() -> None:
    away = [ApiException(status=500, reason="dial tcp: connection refused") for _ in range(12)]
    api = Api(pods=[as_it_is("Running")], logs=[*away, "the log"])
    log = QuickPodManager(kube_client=api).read_pod_logs(POD, "step")
    assert log.response == "the log"


def test_a_log_that_cannot_be_had_does_not_fail_a_pod_that_has_ended() -> None:
    api = Api(pods=[as_it_is("Succeeded")], logs=[ApiException(status=403, reason="Forbidden")])
    manager = QuickPodManager(kube_client=api)
    status = manager.fetch_container_logs(POD, "step", follow=True)
    assert not status.running
    with pytest.raises(HTTPError, match="answers 403 Forbidden"):
        manager.read_pod_logs(POD, "step")


def test_a_login_that_is_refused_is_told_at_once() -> None:
    api = Api(pods=[as_it_is("Running")], logs=[ApiException(status=401)])
    with pytest.raises(ApiException):
        QuickPodManager(kube_client=api).read_pod_logs(POD, "step")
