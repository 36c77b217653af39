"""A Helm release of the cluster's set-up: how far it is from its record, and bringing it there."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import yaml

from slipway.catalog.records import Chart
from slipway.cluster.objects import Object
from slipway.errors import UsageError, bounded
from slipway.manifests.cluster_objects import values_of
from slipway.manifests.mirror import merged, mirrored_reference, mirrored_values
from slipway.prepare import release_diff
from slipway.prepare.helm import Helm, HelmError, capabilities, helm_for
from slipway.prepare.helm_release import PENDING, PREPARED_LABEL, Release, objects_in, releases
from slipway.prepare.outlook import Change, Outlook, change_of, outlook
from slipway.prepare.target import Target, package

_MARK = "slipway "
_HISTORY = "5"


def step_id(chart: Chart) -> str:
    """Return the id of a chart's step."""
    return f"charts/{chart.name}"


def longest_seconds(chart: Chart) -> int:
    """Return how long making it may take: clearing away what an interrupted run left, and installing."""
    return chart.timeout_seconds + 60 + _install_seconds(chart) + 120


def _install_seconds(chart: Chart) -> int:
    # --atomic takes the release back within a second such time.
    return 2 * chart.timeout_seconds + 60


def look_at_chart(target: Target, chart: Chart) -> Outlook:
    """Say what would change. helm and the chart are only needed where something would.

    A release is as it should be when Helm calls it deployed, it was made from just this (chart, version, values,
    mirror), and all its objects exist. Values that somebody changed in an object are left: webhooks get their
    certificates and autoscalers their replicas that way.

    Raises:
        SlipwayError: it cannot be told, or cannot be made as things are.
    """
    title, about = f"{chart.chart} {chart.version}", _about(chart)
    known = releases(target.cluster, namespace=chart.namespace, name=chart.name)
    latest = known[0] if known else None
    _refuse_foreign_operation(latest, chart)
    if not chart.present:
        if latest is None:
            return outlook(step_id(chart), f"{about} is not there, as asked", [])
        text = release_diff.removal(target.cluster, latest.objects, namespace=chart.namespace)
        change = change_of(
            about, text, note=f"would be removed: {latest.chart} {latest.version}", digest="removed"
        )
        return outlook(step_id(chart), title, [change])
    if latest is not None and _is_as_wanted(target, chart, latest):
        gone = release_diff.missing(target.cluster, latest.objects, namespace=chart.namespace)
        if not gone:
            return outlook(step_id(chart), title, [])
    with helm_for(target.cluster) as helm:
        change = _change(target, chart, helm, known)
    return outlook(step_id(chart), title, [change])


def make_chart(target: Target, chart: Chart) -> None:
    """Install, upgrade or remove the release; what an interrupted run left of it is cleared away first.

    Raises:
        SlipwayError: it failed; then helm has taken back what it had begun.
    """
    about, place = _about(chart), ("--namespace", chart.namespace)
    known = releases(target.cluster, namespace=chart.namespace, name=chart.name)
    _refuse_foreign_operation(known[0] if known else None, chart)
    seconds = chart.timeout_seconds
    with helm_for(target.cluster) as helm:
        wait = ("--wait", "--timeout", f"{seconds}s")
        if known and not chart.present:
            helm.run("uninstall", chart.name, *place, *wait, seconds=seconds + 60, about=about)
            return
        _recover(helm, known, chart, wait=wait, about=about)
        helm.run(
            *("upgrade", "--install", chart.name, *reference(target, chart), *place),
            *("--values", helm.values_file(values(target, chart, helm))),
            *("--atomic", *wait, "--history-max", _HISTORY),
            *("--labels", f"{PREPARED_LABEL}=true", "--description", _mark(target, chart)),
            seconds=_install_seconds(chart),
            about=about,
        )


def reference(target: Target, chart: Chart) -> list[str]:
    """Return how helm finds the chart: a package that is mounted, an OCI reference, or a repository.

    Raises:
        UsageError: the package is not there or is another chart, or the record says too little.
    """
    if chart.package:
        _refuse_other_package(target, chart)
        return [str(package(target, chart.package))]
    if chart.chart.startswith("oci://"):
        return [mirrored_reference(chart.chart, target.record), "--version", chart.version]
    if chart.repository is None:
        raise UsageError(
            "the chart has no repository",
            about=f"chart {chart.name}: {chart.chart}",
            remedy="Set `repository` to its URL, use an oci:// reference, or name a `package`",
        )
    return [chart.chart.rpartition("/")[2], "--repo", chart.repository, "--version", chart.version]


def values(target: Target, chart: Chart, helm: Helm) -> dict[str, Any]:
    """Return the values to install with: the record's, and what makes the chart's own images come from the mirror."""
    own = values_of(chart, target.record)
    if not target.record.registry_rewrite:
        return own
    shown = helm.run("show", "values", *reference(target, chart), about=_about(chart))
    defaults = yaml.safe_load(shown) or {}
    return merged(mirrored_values(merged(defaults, chart.values), target.record), own)


def rendered(
    target: Target, chart: Chart, helm: Helm, given: Mapping[str, Any], *, hooks: bool, definitions: bool
) -> list[Object]:
    """Return the objects that the chart gives with these values."""
    manifest = helm.run(
        *("template", chart.name, *reference(target, chart), "--namespace", chart.namespace),
        *("--values", helm.values_file(given), *capabilities(target.cluster)),
        *(() if hooks else ("--no-hooks",)),
        *(("--include-crds",) if definitions else ()),
        about=_about(chart),
    )
    return list(objects_in(manifest))


def _change(target: Target, chart: Chart, helm: Helm, known: list[Release]) -> Change:
    latest = known[0] if known else None
    given = values(target, chart, helm)
    new = rendered(target, chart, helm, given, hooks=False, definitions=latest is None)
    text, refusals = release_diff.difference(
        target.cluster, old=latest.objects if latest else (), new=new, namespace=chart.namespace
    )
    if refusals:
        raise HelmError(
            "the cluster refuses what the chart gives", about=_about(chart), why="; ".join(refusals)
        )
    if latest is not None and dict(latest.values) != given:
        text += release_diff.of_values(latest.values, given)
    return change_of(
        _about(chart), text, note=_told(latest, chart), new=latest is None, digest=_mark(target, chart)
    )


def _told(latest: Release | None, chart: Chart) -> str:
    wanted = f"{chart.chart} {chart.version}"
    if latest is None:
        return f"install {wanted}"
    if latest.status in PENDING:
        return f"recover {wanted}: a run was interrupted ({latest.status} since {latest.updated})"
    if latest.status != "deployed":
        return f"install {wanted}: the last try is {latest.status}: {bounded(latest.description, limit=200)}"
    return f"upgrade {latest.chart} {latest.version} to {wanted}"


def _is_as_wanted(target: Target, chart: Chart, latest: Release) -> bool:
    if latest.status != "deployed":
        return False
    if latest.description.startswith(_MARK):
        has_package = chart.package and target.packages and (target.packages / chart.package).exists()
        mark = _mark(target, chart) if has_package else _content_mark(target, chart)
        return latest.description == mark or (not has_package and latest.description.startswith(f"{mark} "))
    name = chart.chart.rpartition("/")[2]
    return (latest.chart, latest.version, latest.values) == (
        name,
        chart.version,
        values_of(chart, target.record),
    )


def _mark(target: Target, chart: Chart) -> str:
    """Return what a revision is marked with: hashes over all that decides what it consists of."""
    mark = _content_mark(target, chart)
    if not chart.package:
        return mark
    return f"{mark} {hashlib.sha256(package(target, chart.package).read_bytes()).hexdigest()[:16]}"


def _content_mark(target: Target, chart: Chart) -> str:
    content = chart.model_dump(mode="json", include={"chart", "repository", "version", "values"})
    content["mirror"] = target.record.registry_rewrite
    return _MARK + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_foreign_operation(latest: Release | None, chart: Chart) -> None:
    if latest is None or latest.status not in PENDING or latest.ours:
        return
    where = f"-n {chart.namespace}"
    raise UsageError(
        "somebody else's helm is at work at the release",
        about=_about(chart),
        why=f"{latest.status} since {latest.updated}",
        remedy=f"Wait for it; if it was interrupted: helm rollback {chart.name} {where}, or, where nothing was "
        f"installed before, helm uninstall {chart.name} {where}",
    )


def _recover(helm: Helm, known: list[Release], chart: Chart, *, wait: tuple[str, ...], about: str) -> None:
    """Clear away what a killed run left: Helm itself refuses to touch a release that is pending."""
    if not known or known[0].status not in PENDING:
        return
    place = ("--namespace", chart.namespace)
    good = next((one for one in known if one.status == "deployed"), None)
    if good is None or known[0].status == "uninstalling":
        helm.run("uninstall", chart.name, *place, *wait, seconds=chart.timeout_seconds + 60, about=about)
    else:
        arguments = ("rollback", chart.name, str(good.revision), *place, *wait)
        helm.run(*arguments, seconds=chart.timeout_seconds + 60, about=about)


def _refuse_other_package(target: Target, chart: Chart) -> None:
    """Refuse a package that is another chart than the record says: helm would install whatever it holds."""
    assert chart.package is not None
    path = package(target, chart.package)
    try:
        with tarfile.open(path) as archive:
            member = next(
                one
                for one in archive.getmembers()
                if one.name.count("/") == 1 and one.name.endswith("/Chart.yaml")
            )
            content = archive.extractfile(member)
            metadata = yaml.safe_load(content.read()) if content else {}
    except (tarfile.TarError, OSError, EOFError, StopIteration, yaml.YAMLError) as error:
        raise UsageError(
            "the package is no Helm chart",
            about=str(path),
            why=bounded(str(error)),
            remedy="Make it with: helm pull or helm package",
        ) from error
    holds, wanted = (
        (metadata.get("name"), metadata.get("version")),
        (chart.chart.rpartition("/")[2], chart.version),
    )
    if holds != wanted:
        raise UsageError(
            "the package is another chart than the record says",
            about=str(path),
            why=f"it is {holds[0]} {holds[1]}, the record says {wanted[0]} {wanted[1]}",
            remedy="Name the right package, or correct the record",
        )


def _about(chart: Chart) -> str:
    return f"Helm release {chart.namespace}/{chart.name}"
