"""The steps of preparing a cluster: which there are for a record, what each would change, and making it.

A step is data and the functions of its kind. Each looks at the cluster itself and makes only what is not there, so that
any of them can be interrupted, repeated and run alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from slipway.catalog.records import Chart
from slipway.catalog.records import Cluster as Record
from slipway.cluster.apply import apply
from slipway.cluster.client import Cluster
from slipway.cluster.diff import Difference, differences
from slipway.cluster.objects import Object, ref_of
from slipway.errors import ClusterError, SlipwayError, UsageError
from slipway.prepare import charts, definitions, parts
from slipway.prepare.outlook import Outlook, change_of, outlook
from slipway.prepare.refusals import missing_rule, reason_of, remedy_of
from slipway.prepare.target import Target

ESTABLISHED_SECONDS = 60.0
_CONFLICT = "held by"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        id: what people select it by, and what an outlook carries.
        title: what it makes.
        look: says what would change; raises where that cannot be told or made.
        make: makes it, given what was looked at.
        after: ids of steps whose absence it would trip over.
        seconds: how long making it may take; so long a run that died in it keeps the cluster's lock.
    """

    id: str
    title: str
    look: Callable[[Target], Outlook]
    make: Callable[[Target], None]
    after: tuple[str, ...] = ()
    seconds: int = 300


def steps_of(record: Record) -> list[Step]:
    """Return the steps of a cluster, in the order in which they are made; only what its record asks for."""
    setup, gateway = record.setup, record.gateway
    listeners = gateway.listeners if gateway else []
    spaces, own_charts = ("namespaces",), tuple(charts.step_id(chart) for chart in setup.charts)
    network = ("gateway-api", *spaces, *own_charts)
    version = setup.gateway_api.version if setup.gateway_api else ""
    subject = f"{setup.rights.kind} {setup.rights.name}" if setup.rights else ""
    before: list[tuple[object, Step]] = [
        (
            setup.gateway_api,
            _objects_step(
                "gateway-api", f"Gateway API {version}", definitions.gateway_definitions, definitions=True
            ),
        ),
        (setup.namespaces, _rendered_step("namespaces", "namespaces and their Pod Security", "Namespace")),
        (setup.rights, _objects_step("rights", f"rights of {subject}", parts.rights, after=spaces)),
        (setup.secrets, _objects_step("secrets", "Secrets from connections", parts.secrets, after=spaces)),
        (setup.node_labels, _objects_step("node-labels", "labels of nodes", parts.labelled_nodes)),
    ]
    behind: list[tuple[object, Step]] = [
        (setup.nfs, _rendered_step("storage-classes", "storage classes on NFS exports", "StorageClass")),
        (
            setup.address_pools,
            _rendered_step(
                *("address-pools", "MetalLB's addresses", "IPAddressPool", "L2Advertisement"),
                after=(*spaces, *own_charts),
            ),
        ),
        (
            listeners or setup.routes,
            _rendered_step("grants", "references across namespaces", "ReferenceGrant", after=network),
        ),
        (listeners, _rendered_step("gateway", "Gateway and its listeners", "Gateway", after=network)),
        (setup.routes, _rendered_step("routes", "routes of the cluster's own", "HTTPRoute", after=network)),
    ]
    made = [_chart_step(chart) for chart in setup.charts]
    return [
        *(step for asked, step in before if asked),
        *made,
        *(step for asked, step in behind if asked),
    ]


def chosen(record: Record, names: Iterable[str]) -> list[Step]:
    """Return the steps that were asked for by id, ``charts`` for all charts; all steps when none is named.

    Raises:
        UsageError: there is no such step.
    """
    steps, wanted = steps_of(record), list(names)
    for name in wanted:
        if not any(_is_meant(step, name) for step in steps):
            raise UsageError(
                "no such step",
                about=f"{record.name}: {name}",
                remedy=f"Its record has: {', '.join(step.id for step in steps) or 'none'}",
            )
    return [step for step in steps if not wanted or any(_is_meant(step, name) for name in wanted)]


def look(target: Target, step: Step) -> Outlook:
    """Look at one step; what keeps it from being made is its outlook, not an error."""
    try:
        return step.look(target)
    except SlipwayError as error:
        return blocked(step, error)


def make(target: Target, step: Step, *, approved: Mapping[str, str] | None = None) -> Outlook:
    """Make one step if anything of it is missing, and look again.

    Args:
        target: the cluster.
        step: which.
        approved: what somebody approved, as an outlook says it; None where whoever asks has just seen it.

    Returns:
        What was made.

    Raises:
        SlipwayError: it is blocked, would make something else than was approved, or is not there afterwards.
    """
    try:
        before = step.look(target)
    except SlipwayError as error:
        if getattr(error, "is_transient", False):
            raise  # whoever asks may try again
        before = blocked(step, error)
    if before.state == "there":
        return before
    if before.state == "blocked":
        raise ClusterError(
            f"{step.id} cannot be made", about=target.record.name, why=before.reason, remedy=before.remedy
        )
    _refuse_other(before, approved)
    try:
        step.make(target)
    except SlipwayError as error:
        rule = remedy_of(error)
        if rule == error.remedy:
            raise
        raise ClusterError(error.what, about=error.about, why=error.why, remedy=rule) from error
    after = look(target, step)
    if after.state != "there":
        lacking = after.reason or ", ".join(change.about for change in after.changes)
        raise ClusterError(
            f"{step.id} was made and is not there", about=target.record.name, why=lacking, remedy=after.remedy
        )
    return before


def blocked(step: Step, error: SlipwayError) -> Outlook:
    """Return the outlook of a step that cannot be made."""
    return Outlook(
        step=step.id, title=step.title, state="blocked", reason=reason_of(error), remedy=remedy_of(error)
    )


def _refuse_other(now: Outlook, approved: Mapping[str, str] | None) -> None:
    other = [
        change.about
        for change in now.changes
        if approved is not None and approved.get(change.about) != change.digest
    ]
    if other:
        raise UsageError(
            "what would change now is not what was approved",
            about=f"{now.step}: {', '.join(other)}",
            why="the catalog or the cluster has changed since",
            remedy="Start prepare_cluster again and approve the new plan",
        )


def _is_meant(step: Step, name: str) -> bool:
    return step.id == name or step.id.startswith(f"{name}/")


def _chart_step(chart: Chart) -> Step:
    return Step(
        id=charts.step_id(chart),
        title=f"{chart.chart} {chart.version}",
        look=partial(charts.look_at_chart, chart=chart),
        make=partial(charts.make_chart, chart=chart),
        after=("namespaces", "secrets", "node-labels"),
        seconds=charts.longest_seconds(chart),
    )


def _rendered_step(step: str, title: str, *kinds: str, after: tuple[str, ...] = ()) -> Step:
    return _objects_step(step, title, lambda target: (target.objects(*kinds), ""), after=after)


def _objects_step(
    step: str,
    title: str,
    objects: Callable[[Target], tuple[list[Object], str]],
    *,
    after: tuple[str, ...] = (),
    definitions: bool = False,
) -> Step:
    """Make a step of objects that we apply; those that are as they should be are not touched.

    Args:
        step: its id.
        title: what it makes.
        objects: gives them, and what is noteworthy about those that it leaves out.
        after: as in the step.
        definitions: whether to wait until the server serves their kinds.
    """

    def look_at(target: Target) -> Outlook:
        listed, note = objects(target)
        found = list(differences(target.cluster, listed, force=target.take_over))
        refused = [one for one in found if one.refusal]
        if refused:
            return _refused(step, title, refused)
        changes = [change_of(str(one.ref), one.text, note=one.note, new=one.new) for one in found if one.text]
        return outlook(step, title, changes, reason=note)

    def make_all(target: Target) -> None:
        listed, _ = objects(target)
        changed = {one.ref for one in differences(target.cluster, listed, force=target.take_over) if one.text}
        lacking = [obj for obj in listed if ref_of(obj) in changed]
        apply(target.cluster, lacking, force=target.take_over)
        if definitions:
            _wait_established(target.cluster, lacking)

    return Step(id=step, title=title, look=look_at, make=make_all, after=after)


def _refused(step: str, title: str, refused: Sequence[Difference]) -> Outlook:
    """The outlook of a step of which the server would refuse something, with what lifts the first refusal."""
    reasons = "; ".join(f"{one.ref}: {one.refusal}" for one in refused)
    remedy = missing_rule(refused[0].refusal)
    if not remedy and any(_CONFLICT in one.refusal for one in refused):
        remedy = (
            "Let the other manager give the fields up, or take them over: slipway prepare CLUSTER --approve "
            f"--take-over --steps {step} (in the form: Take over)"
        )
    return Outlook(step=step, title=title, state="blocked", reason=reasons, remedy=remedy)


def _wait_established(cluster: Cluster, listed: Iterable[Object]) -> None:
    """Wait until the server serves new kinds; it does within a second or two."""
    waiting = [one["metadata"]["name"] for one in listed]
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while waiting:
        name = waiting[0]
        live = cluster.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", name=name)
        states = {one["type"]: one for one in ((live or {}).get("status") or {}).get("conditions") or []}
        if states.get("Established", {}).get("status") == "True":
            waiting.pop(0)
        elif time.monotonic() > deadline:
            told = states.get("NamesAccepted", {}).get("message") or "the server says nothing of it"
            raise ClusterError("a definition is not served", about=name, why=told)
        else:
            time.sleep(0.2)
