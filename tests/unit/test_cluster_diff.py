"""What a person who asks for a diff relies on: exactly what a deployment would change, and nothing of Secrets."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from slipway.cluster.diff import Difference, differences, prunable
from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.errors import ClusterError


class FakeCluster:
    """Objects by reference; an apply merges, sets a default, and counts as the server does."""

    def __init__(self, *objects: Object, kinds: set[str] | None = None) -> None:
        self.objects = {ref_of(one): one for one in objects}
        self.kinds, self.refusals, self.applied = kinds, {}, []  # type: ignore[var-annotated]

    def path_of(self, ref: Ref) -> str:
        if self.kinds is not None and ref.kind not in self.kinds:
            raise ClusterError("the cluster has no such kind", about=ref.kind)
        return "/"

    def get(self, *, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        ref = Ref(apiVersion=api_version, kind=kind, namespace=namespace, name=name)
        return copy.deepcopy(self.objects.get(ref))

    def apply(self, obj: Object, *, dry_run: bool, force: bool) -> Object:
        assert dry_run, "a diff changes nothing"
        self.applied.append(obj)
        ref = ref_of(obj)
        if ref in self.refusals:
            raise self.refusals[ref]
        live = self.objects.get(ref, {"metadata": {}})
        metadata = {**live["metadata"], **obj["metadata"], "generation": 9, "resourceVersion": "9"}
        return {**copy.deepcopy(live), **copy.deepcopy(obj), "metadata": metadata, "status": {"tried": True}}


NAMESPACE: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}


def made(kind: str = "ConfigMap", name: str = "a", *, labels: Any = None, **fields: Any) -> Object:
    metadata = {"name": name, "namespace": "ns", **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def live(obj: Object, **metadata: Any) -> Object:
    kept = {
        "uid": "1",
        "resourceVersion": "8",
        "generation": 8,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "slipway"}],
        **metadata,
    }
    return {**obj, "metadata": {**obj["metadata"], **kept}, "status": {"ready": True}}


def compared(cluster: FakeCluster, *objects: Object) -> list[Difference]:
    return list(differences(cluster, objects))  # type: ignore[arg-type]


def test_an_object_that_stays_as_it_is_has_no_diff() -> None:
    obj = made(data={"a": "1"})

    assert [one.text for one in compared(FakeCluster(NAMESPACE, live(obj)), obj)] == [""]


def test_only_what_changes_is_shown_and_nothing_that_the_server_keeps_for_itself() -> None:
    cluster = FakeCluster(NAMESPACE, live(made(data={"a": "1", "b": "2"})))

    (one,) = compared(cluster, made(data={"a": "1", "b": "3"}))

    assert one.text.splitlines()[:2] == ["--- cluster: ConfigMap ns/a", "+++ deployment: ConfigMap ns/a"]
    changed = [line for line in one.text.splitlines()[2:] if line[0] in "+-"]
    assert changed == ["-  b: '2'", "+  b: '3'"]


def test_a_new_object_is_shown_whole_as_it_was_rendered() -> None:
    cluster = FakeCluster(NAMESPACE)

    (one,) = compared(cluster, made(data={"a": "1"}))

    assert "+  a: '1'" in one.text and "status" not in one.text and one.note == ""
    assert len(cluster.applied) == 1, "it was tried all the same"


def test_what_cannot_be_tried_yet_is_new_and_says_why() -> None:
    cluster = FakeCluster(kinds={"ConfigMap", "Namespace"})

    notes = [one.note for one in compared(cluster, made(), made("Dataset"))]

    assert notes == ["namespace ns is not there yet", "the cluster does not know Dataset in v1"]
    assert cluster.applied == []


def test_replicas_that_scale_or_an_autoscaler_set_are_no_difference() -> None:
    def workload(replicas: int, image: str) -> Object:
        template = {"spec": {"containers": [{"name": "server", "image": image}]}}
        return made("StatefulSet", spec={"replicas": replicas, "template": template})

    cluster = FakeCluster(NAMESPACE, live(workload(5, "a")))

    same, changed = (compared(cluster, workload(1, image))[0].text for image in ("a", "b"))

    assert same == ""
    assert "image: b" in changed and "replicas: 1" not in changed


def test_what_secrets_hold_is_never_printed() -> None:
    cluster = FakeCluster(
        NAMESPACE, live(made("Secret", data={"same": "c2FtZQ==", "old": "b2xk", "x": "eA=="}))
    )

    (one,) = compared(cluster, made("Secret", data={"same": "c2FtZQ==", "new": "bmV3", "x": "eQ=="}))

    assert not any(value in one.text for value in ("c2FtZQ==", "b2xk", "bmV3", "eA==", "eQ=="))
    changed = [line for line in one.text.splitlines()[2:] if line[0] in "+-"]
    assert set(changed) == {"-  old: '***'", "-  x: '*** (before)'", "+  new: '***'", "+  x: '*** (after)'"}


def test_a_refusal_is_told_with_the_fields_and_those_who_hold_them() -> None:
    cluster = FakeCluster(NAMESPACE, live(made()))
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".data.a"}
    refused = ApiError("apply", why="conflict", status=409, causes=[cause])
    cluster.refusals = {ref_of(made()): refused}

    (one,) = compared(cluster, made())

    assert one.refusal == 'data.a is held by "kubectl"'


@pytest.mark.parametrize(
    "error", [UnreachableError("no answer", about="x"), ApiError("apply", status=401, why="login")]
)
def test_a_server_that_cannot_be_asked_is_an_error_and_no_difference(error: ClusterError) -> None:
    cluster = FakeCluster(NAMESPACE, live(made()))
    cluster.refusals = {ref_of(made()): error}

    with pytest.raises(ClusterError):
        compared(cluster, made())


OURS = {"app.kubernetes.io/managed-by": "slipway", "slipway.io/endpoint": "a"}


def test_what_would_be_pruned_is_ours_still_there_and_not_wanted_any_more() -> None:
    gone, kept, taken_over, data = (
        made(name="gone", labels=OURS),
        made(name="kept", labels=OURS),
        made(name="taken-over"),
        made("PersistentVolumeClaim", "data", labels=OURS),
    )
    cluster = FakeCluster(NAMESPACE, *map(live, (gone, kept, taken_over, data)))
    old = [ref_of(one) for one in (gone, kept, taken_over, data, made(name="deleted", labels=OURS))]

    assert prunable(cluster, old=old, new=[ref_of(kept)]) == [ref_of(gone)]  # type: ignore[arg-type]
