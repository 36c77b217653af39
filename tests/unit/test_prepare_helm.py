"""What people rely on in Helm releases: what helm tells, what is read, what a diff shows."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import ClusterError, UsageError
from slipway.prepare import charts, helm, release_diff
from slipway.prepare.helm_release import releases
from tests.unit.prepare_fakes import CATALOG, FORBIDDEN, Live, target

COMPLAINTS = [
    ('Error: chart "small" version "9" not found in https://x repository', "the chart cannot be had"),
    (
        "Error: looks like https://x is not a valid chart repository or cannot be reached: dial",
        "cannot be had",
    ),
    (
        "Error: release a failed, and has been uninstalled due to atomic being set: timed out waiting",
        "not become ready",
    ),
    (f"Error: INSTALLATION FAILED: {FORBIDDEN}", "helm may not do what the chart needs"),
    (
        "Error: Unable to continue with install: ConfigMap x cannot be imported into the current release",
        "not this",
    ),
    ("Error: something new", "helm failed.*something new"),
]


@pytest.mark.parametrize(("complaint", "told"), COMPLAINTS)
def test_helms_complaints_become_one_line_with_what_to_do(complaint: str, told: str) -> None:
    error = helm._failure(f"level=warn x\n{complaint}\n", about="Helm release a/b")

    assert re.search(told, str(error)) and "\n" not in str(error)


def test_without_helm_one_line_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLIPWAY_HELM", raising=False)

    with pytest.raises(UsageError, match=r"helm is not installed.*Airflow's workers.*SLIPWAY_HELM"):
        helm.helm_program()


# -- Helm releases


def stored(revision: int, status: str, **more: Any) -> dict[str, Any]:
    content = {
        "version": revision,
        "info": {"status": status, "description": "Install complete", "last_deployed": "2026-11-21"},
        "chart": {"metadata": {"name": "small", "version": "0.1.0"}},
        "config": {"greeting": "hi"},
        "manifest": "---\nkind: List\nitems: [{kind: A}]\n---\napiVersion: v1\nkind: B\n---\n# empty\n",
        **more,
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {
            "name": f"sh.helm.release.v1.small.v{revision}",
            "labels": {"slipway.io/prepared": "true"},
        },
        "data": {"release": packed},
    }


def test_helms_releases_are_read_from_the_cluster_the_newest_first() -> None:
    known = releases(Live(stored(2, "deployed"), stored(10, "failed")), namespace="n", name="small")  # type: ignore[arg-type]

    assert [(one.revision, one.status, one.ours) for one in known] == [
        (10, "failed", True),
        (2, "deployed", True),
    ]
    assert [one["kind"] for one in known[0].objects] == ["A", "B"]
    assert (known[0].chart, known[0].version, known[0].values) == ("small", "0.1.0", {"greeting": "hi"})


@pytest.mark.parametrize("data", [{}, {"release": "%%"}, {"release": base64.b64encode(b"e30=").decode()}])
def test_a_release_that_cannot_be_read_is_named(data: dict[str, str]) -> None:
    broken = {**stored(1, "deployed"), "data": data}

    with pytest.raises(
        ClusterError, match=r"a Helm release cannot be read .*sh\.helm\.release\.v1\.small\.v1"
    ):
        releases(Live(broken), namespace="n", name="small")  # type: ignore[arg-type]


def configmap(name: str, namespace: str | None = None, **data: str) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **place}, "data": data}


def test_a_releases_diff_shows_what_comes_changes_and_goes_as_helm_would_do_it() -> None:
    live = Live(configmap("a", "n", kept="by hand", old="1", same="x"), configmap("gone", "n", x="1"))
    old = [configmap("a", old="1", same="x"), configmap("gone", x="1")]
    new = [configmap("a", same="x", new="2"), configmap("b", y="1")]
    text, refusals = release_diff.difference(live, old=old, new=new, namespace="n")  # type: ignore[arg-type]

    changed = {line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")}
    assert refusals == []
    assert {"-  old: '1'", "+  new: '2'", "+  y: '1'", "-  x: '1'"} <= changed
    assert not any("by hand" in line or "same" in line for line in changed)
    assert live.applied == []


def test_objects_of_kinds_that_come_with_the_chart_are_new() -> None:
    pool = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "p", "namespace": "n"},
    }
    live = Live(unknown=("IPAddressPool",))
    text, refusals = release_diff.difference(live, old=[], new=[pool], namespace="n")  # type: ignore[arg-type]

    assert "+kind: IPAddressPool" in text and refusals == []


def test_a_password_that_somebody_set_as_a_value_is_not_shown() -> None:
    assert "hush" not in release_diff.of_values({"adminPassword": "hush"}, {})


def test_charts_of_the_catalog_can_be_found_by_helm() -> None:
    for cluster in CATALOG.clusters.values():
        for chart in cluster.setup.charts:
            found = charts.reference(target(cluster), chart)
            assert found[-2:] == ["--version", chart.version] and not found[0].startswith("-")
