"""What a cluster pulls: each image where it is published and where the cluster's record takes it from; each chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from slipway.catalog.records import Chart
from slipway.checks.plan import site_of
from slipway.cluster.objects import Object
from slipway.errors import SlipwayError
from slipway.manifests.mirror import full_name, mirrored_reference
from slipway.prepare import charts
from slipway.prepare.helm import Helm, helm_for
from slipway.prepare.refusals import reason_of
from slipway.prepare.target import Target


class Pulled(BaseModel):
    """One thing that has to be in a mirror for a cluster without access to anything else.

    Attributes:
        kind: ``image`` or ``chart``.
        source: where it is published.
        taken_from: where the cluster's record takes it from; the same where nothing is rewritten.
        used_by: what needs it.
        fault: why it could not be told; then the rest is what is known.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    source: str
    taken_from: str
    used_by: str
    fault: str = ""


def pulled(target: Target) -> list[Pulled]:
    """Return all that a cluster pulls, each once, sorted; a chart that cannot be rendered hides nothing else.

    Images that a chart keeps in an argument or hands to a controller of its own are not seen.
    """
    plain = replace(target, record=target.record.model_copy(update={"registry_rewrite": {}}), _rendered={})
    found = [*_endpoint_images(target, plain)]
    wanted = [chart for chart in target.record.setup.charts if chart.present]
    found += [_chart(target, chart) for chart in wanted]
    if wanted:
        try:
            with helm_for(target.cluster) as helm:
                for chart in wanted:
                    found += _chart_images(target, plain, chart, helm)
        except SlipwayError as error:
            found += [_unknown(chart, error) for chart in wanted]
    once = {(one.kind, one.source, one.taken_from, one.fault): one for one in found}
    return [once[key] for key in sorted(once)]


def _chart(target: Target, chart: Chart) -> Pulled:
    origin = f" of {chart.repository}" if chart.repository else ""
    taken = f"{mirrored_reference(chart.chart, target.record)} {chart.version}{origin}"
    return Pulled(
        kind="chart",
        source=f"{chart.chart} {chart.version}{origin}",
        taken_from=chart.package or taken,
        used_by=charts.step_id(chart),
    )


def _endpoint_images(target: Target, plain: Target) -> Iterator[Pulled]:
    listed = []
    for one in (plain, target):
        clusters = {**one.catalog.clusters, one.record.name: one.record}
        site = site_of(replace(one.catalog, clusters=clusters), one.record.name, include=one.include)
        listed.append({endpoint.endpoint: endpoint.images for endpoint in site.endpoints})
    sources, targets = listed
    for endpoint, images in sources.items():
        for source, taken in zip(images, targets.get(endpoint, images), strict=True):
            yield Pulled(kind="image", source=source, taken_from=taken, used_by=f"endpoint {endpoint}")


def _chart_images(target: Target, plain: Target, chart: Chart, helm: Helm) -> list[Pulled]:
    try:
        # Both by the reference that the cluster's people reach; only the values differ.
        before, after = (
            _images(
                charts.rendered(
                    target, chart, helm, charts.values(one, chart, helm), hooks=True, definitions=False
                )
            )
            for one in (plain, target)
        )
    except SlipwayError as error:
        return [_unknown(chart, error)]
    return [
        Pulled(
            kind="image",
            source=full_name(image),
            taken_from=after.get(place, image),
            used_by=charts.step_id(chart),
        )
        for place, image in before.items()
    ]


def _unknown(chart: Chart, error: SlipwayError) -> Pulled:
    about = charts.step_id(chart)
    return Pulled(
        kind="image", source="?", taken_from="?", used_by=about, fault=f"{about}: {reason_of(error)}"
    )


def _images(objects: Sequence[Object]) -> dict[str, str]:
    """Return the images of pods by where in which object they stand."""
    found: dict[str, str] = {}
    for obj in objects:
        found |= dict(_images_in(obj, f"{obj['kind']}/{obj['metadata'].get('name', '')}"))
    return found


def _images_in(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if isinstance(value.get("image"), str) and "name" in value:
            yield f"{place}/image", value["image"]
        for key, inner in value.items():
            yield from _images_in(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _images_in(inner, f"{place}/{index}")
