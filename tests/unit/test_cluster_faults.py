"""What reaches people of an answer or a fault: the server's own words, bounded, and no secret."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.cluster.causes import Likely, likely_cause
from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError, UnreachableError, api_error
from slipway.cluster.objects import Ref, in_order, object_path
from slipway.cluster.redact import HIDDEN, redact, without_values
from slipway.cluster.shared import seat
from slipway.cluster.verdict import Verdict
from slipway.cluster.waiting import Target
from slipway.cluster.watch import wait_for_workload
from slipway.errors import ClusterError


def status(code: int, message: str, **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "message": message, **more}).encode()


def error(code: int, body: bytes) -> ApiError:
    return api_error("could not read an object", about="Pod a/b", status=code, body=body)


# -- errors ---------------------------------------------------------------------------------------------------


def test_the_servers_words_and_causes() -> None:
    causes = [{"reason": "FieldManagerConflict", "message": "m", "field": ".spec.x"}]
    found = error(409, status(409, "it conflicts", reason="Conflict", details={"causes": causes}))
    assert str(found) == "could not read an object (Pod a/b): it conflicts"
    assert (found.reason, found.causes) == ("Conflict", causes)


@pytest.mark.parametrize(
    "body", [b"<html>password=hunter2</html>", b"", b"[1]", b'{"token": "hunter2"}', b"\xff\xfe"]
)
def test_bodies_that_are_no_status_are_dropped(body: bytes) -> None:
    found = error(502, body)
    assert str(found) == "could not read an object (Pod a/b): the server answered with HTTP status 502"


def test_messages_are_bounded_and_one_line() -> None:
    text = str(error(422, status(422, "x\ny" * 5000)))
    assert len(text) < 600
    assert "\n" not in text


@given(st.binary(max_size=200), st.integers(300, 599))
def test_any_answer_makes_an_error(body: bytes, code: int) -> None:
    assert error(code, body).status == code


TYPED = "failed to create typed patch object (a/b; /v1, Kind=ConfigMap): .dataa: field not declared in schema"


def test_what_may_pass_and_what_not() -> None:
    assert error(429, status(429, "slow down", details={"retryAfterSeconds": 3})).retry_after == 3
    assert [code for code in (400, 403, 404, 409, 422, 429, 500, 503) if error(code, b"").is_transient] == [
        429,
        500,
        503,
    ]
    assert not error(500, status(500, TYPED)).is_transient, "a mistyped field would be tried again and again"


class Scripted:
    """A client that gives one answer after the other."""

    def __init__(self, *answers: Any) -> None:
        self.configuration = SimpleNamespace(host="https://cluster.test", verify_ssl=True)
        self.answers = list(answers)
        self.asked: list[str] = []

    def call_api(self, path: str, method: str, **_: Any) -> Any:
        self.asked.append(f"{method} {path}")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(status=answer[0], data=answer[1], headers={})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between tries, which take no time here."""
    made: list[float] = []
    monkeypatch.setattr("slipway.cluster.connection.time.sleep", made.append)
    return made


OK = (200, b'{"gitVersion": "v1.34.4", "metadata": {}}')


def test_a_server_that_restarts_is_waited_for(pauses: list[float]) -> None:
    api = Scripted(ConnectionRefusedError(111, "Connection refused"), (503, b""), ConnectionResetError(), OK)
    assert Cluster(api_client=api).version() == "v1.34.4"
    assert len(pauses) == 3


def test_a_server_that_has_not_read_its_roles_yet_forbids_nothing_for_long(pauses: list[float]) -> None:
    forbidden = (403, status(403, "User admin cannot get"))
    not_ready = (500, b"")
    api = Scripted(forbidden, not_ready, forbidden, not_ready, OK)
    assert Cluster(api_client=api).version() == "v1.34.4"


def test_a_real_refusal_comes_at_once(pauses: list[float]) -> None:
    forbidden = (403, status(403, "User slipway cannot get"))
    api = Scripted(forbidden, OK, forbidden)
    with pytest.raises(ApiError, match="slipway cannot get"):
        Cluster(api_client=api).version()
    assert pauses == []
    assert api.asked == ["GET /version", "GET /readyz", "GET /version"]


REFUSED = (403, status(403, "User slipway cannot get"))
NO_NAMESPACE = (404, status(404, "not found"))
ENDING = (200, json.dumps({"metadata": {"deletionTimestamp": "2026-11-21T12:00:00Z"}}).encode())
CLAIM = {"api_version": "v1", "kind": "PersistentVolumeClaim", "namespace": "models"}


def in_namespace(found: tuple[int, bytes]) -> Cluster:
    """A cluster that refuses everything in a namespace, and says this of the namespace itself."""
    return Cluster(api_client=Scripted(REFUSED, OK, REFUSED, found))


def test_in_a_namespace_that_is_gone_nothing_is_there_though_its_role_went_with_it() -> None:
    ref = Ref(apiVersion="v1", kind="PersistentVolumeClaim", namespace="models", name="weights")
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "step", "namespace": "models"}}

    assert in_namespace(NO_NAMESPACE).get(**CLAIM, name="weights") is None
    assert in_namespace(NO_NAMESPACE).list(**CLAIM) == []
    assert in_namespace(NO_NAMESPACE).delete(ref) is False
    with pytest.raises(ApiError, match=r'namespaces "models" not found.*kubectl create namespace') as caught:
        in_namespace(NO_NAMESPACE).create(made)
    assert caught.value.status == 404


@pytest.mark.parametrize(("found", "words"), [(OK, "slipway cannot get.*its role"), (REFUSED, "its role")])
def test_where_the_namespace_is_there_or_unknown_the_right_is_missing(
    found: tuple[int, bytes], words: str
) -> None:
    with pytest.raises(ApiError, match=words):
        in_namespace(found).list(**CLAIM)


def test_a_namespace_that_is_being_deleted_is_waited_for() -> None:
    with pytest.raises(ApiError, match=r"being terminated.*Wait until the namespace is gone"):
        in_namespace(ENDING).list(**CLAIM)


def test_what_may_have_been_created_is_not_created_again(pauses: list[float]) -> None:
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "step-", "namespace": "models"}}
    with pytest.raises(UnreachableError):
        Cluster(api_client=Scripted(ConnectionResetError(), OK)).create(made)
    refused = ConnectionRefusedError(111, "Connection refused")
    Cluster(api_client=Scripted(refused, OK)).create(made)
    Cluster(api_client=Scripted(ConnectionResetError(), OK)).create(made, dry_run=True)


def test_a_certificate_that_is_not_accepted_is_no_matter_of_time(pauses: list[float]) -> None:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed: Hostname mismatch")
    with pytest.raises(ClusterError, match="certificate is not accepted"):
        Cluster(api_client=Scripted(fault)).version()
    assert pauses == []


@pytest.mark.parametrize(
    ("host", "verify", "refused"),
    [
        ("https://c", True, False),
        ("https://c", False, True),
        ("http://c:8080", True, True),
        ("http://127.0.0.1:8001", True, False),
    ],
)
def test_only_verified_connections(host: str, verify: bool, refused: bool) -> None:
    api = Scripted(OK)
    api.configuration = SimpleNamespace(host=host, verify_ssl=verify)
    if refused:
        with pytest.raises(ClusterError, match="would not be verified"):
            Cluster(api_client=api)
    else:
        Cluster(api_client=api)


def test_an_expired_page_starts_the_list_anew() -> None:
    def page(name: str, more: str = "") -> tuple[int, bytes]:
        item = {"metadata": {"name": name}}
        return 200, json.dumps({"items": [item], "metadata": {"continue": more}}).encode()

    api = Scripted(page("a", "next"), (410, status(410, "expired")), page("a", "next"), page("b"))
    found = Cluster(api_client=api).list(api_version="v1", kind="Pod", namespace="models")
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]


# -- waiting --------------------------------------------------------------------------------------------------


class AsyncScripted(Scripted):
    """The same for asyncio."""

    async def call_api(self, path: str, method: str, **more: Any) -> Any:  # type: ignore[override]
        answer = super().call_api(path, method, **more)

        async def read() -> bytes:
            return bytes(answer.data)

        return SimpleNamespace(status=answer.status, read=read, headers={}, close=lambda: None)


def waited(api: AsyncScripted, **more: Any) -> Verdict:
    async def wait() -> Verdict:
        async with seat("scripted", "models", opener=lambda: nullcontext(api)) as taken:
            return await wait_for_workload(
                taken,
                Target(kind="StatefulSet", namespace="models", name="qwen", release="r", endpoint="qwen"),
                deadline_seconds=1,
                **more,
            )

    return asyncio.run(wait())


def test_a_refusal_that_stays_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.cluster.waiting._REFUSED_SECONDS", 0)
    with pytest.raises(ApiError, match="cannot get"):
        waited(AsyncScripted((403, status(403, "slipway cannot get"))))


def test_progress_may_be_told_by_a_coroutine() -> None:
    told: list[str] = []

    async def tell(what: str) -> None:
        told.append(what)

    verdict = waited(AsyncScripted((503, status(503, "starting"))), on_progress=tell)
    assert told == ["waiting for the API server: starting"]
    assert verdict.doom is not None
    assert verdict.doom.reason == "DeadlineExceeded"
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


REFUSALS = [
    ("exceeded quota: memory, requested: requests.memory=400Mi", "kubectl describe resourcequota"),
    ("maximum memory usage per Container is 300Mi, but limit is 400Mi", "LimitRange"),
    ('pods "x" is forbidden: no PriorityClass with name high was found', "kubectl get priorityclass"),
    ("ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no", "admission rule"),
    ("unable to create new content in namespace m because it is being terminated", "make it anew"),
    ('namespaces "m" not found', "kubectl create namespace"),
    ('User "u" cannot create resource "pods"', "Give Slipway its role"),
]


@pytest.mark.parametrize(("message", "remedy"), REFUSALS)
def test_each_refusal_has_its_own_remedy(message: str, remedy: str) -> None:
    body = json.dumps({"kind": "Status", "message": message}).encode()
    assert remedy in api_error("make the pod", about="", status=403, body=body).remedy


# -- logs and secrets -----------------------------------------------------------------------------------------

CAUSES = [
    ("api_server.py: error: unrecognized arguments: --foo", "doesn't know an argument"),
    ("OSError: [Errno 98] Address already in use", "the port is in use"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/m/config.json'", "a file is missing"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "the card's memory is too small"),
    (
        "RuntimeError: The NVIDIA driver: CUDA driver version is insufficient for CUDA runtime",
        "driver is older",
    ),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 12040).", "driver is older"),
    ("RuntimeError: CUDA error: invalid device ordinal", "CUDA failed"),
    (
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        "no NVIDIA driver",
    ),
    ("AttributeError: '_C' object has no attribute 'init_cpu_memory_env'", "libnuma is missing"),
    ("ValueError: the weights are wrong", "ValueError: the weights are wrong"),
]


@pytest.mark.parametrize(("line", "cause"), CAUSES)
def test_likely_causes(line: str, cause: str) -> None:
    log = f"INFO starting\nTraceback (most recent call last):\n  File x, line 1\n{line}\n\n"
    found = likely_cause(log)
    assert found is not None and cause in found.text
    assert bool(found.remedy) == ("weights are wrong" not in line)


def test_a_log_without_a_known_cause_gives_its_last_line() -> None:
    assert likely_cause("INFO starting\nthe gizmo is lost\n\n") == Likely(
        "its log ends with: the gizmo is lost"
    )
    assert likely_cause("\n") is None


SECRETS = [
    "Authorization: Bearer abcdef0123456789",
    "--api-key=hunter2secret",
    "VLLM_API_KEY='hunter2secret'",
    '"aws_secret_access_key": "wJalrXUtnFEMI"',
    "using hf_ABCDEFGHIJKLMNOPQRST",
    "https://bucket/x?X-Amz-Signature=0123abcd&y=1",
    "postgresql://slipway:hunter2@db/x",
    "password: hunter2",
]


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_are_redacted(line: str) -> None:
    found = redact(f"before {line} after")
    assert HIDDEN in found
    for secret in ("abcdef0123456789", "hunter2", "wJalr", "hf_ABC", "0123abcd"):
        assert secret not in found
    assert found.startswith("before ")
    assert found.endswith(" after")


@pytest.mark.parametrize("line", ["12 tokens per second", "token count 5", "GET /health 200", "key=value"])
def test_ordinary_lines_stay(line: str) -> None:
    assert redact(line) == line


def test_objects_keep_references_and_lose_values() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "x", "managedFields": [{}], "annotations": {}},
        "spec": {
            "containers": [
                {
                    "env": [
                        {"name": "A", "value": "hunter2"},
                        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    ],
                    "args": ["--api-key=hunter2", "--port=8000"],
                }
            ]
        },
    }
    cleaned = without_values(pod)
    assert "hunter2" not in repr(cleaned)
    assert cleaned["spec"]["containers"][0]["env"][1]["valueFrom"]["secretKeyRef"] == {
        "name": "s",
        "key": "k",
    }
    assert cleaned["spec"]["containers"][0]["args"][1] == "--port=8000"
    assert "data" not in without_values({"kind": "Secret", "data": {"k": "v"}})


# -- paths and order ------------------------------------------------------------------------------------------


def test_paths_are_quoted() -> None:
    path = object_path(api_version="v1", plural="pods", namespace="a/b", name="../c", subresource="log")
    assert path == "/api/v1/namespaces/a%2Fb/pods/..%2Fc/log"


def test_what_others_need_comes_first() -> None:
    kinds = ["StatefulSet", "HTTPRoute", "Gateway", "Service", "PersistentVolumeClaim", "Secret", "Namespace"]
    ordered = in_order({"kind": kind} for kind in kinds)
    assert [one["kind"] for one in ordered] == [
        "Namespace",
        "PersistentVolumeClaim",
        "Secret",
        "Service",
        "Gateway",
        "StatefulSet",
        "HTTPRoute",
    ]
