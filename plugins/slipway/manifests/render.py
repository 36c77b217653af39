"""A plan's objects as bytes: rendered, parsed, ordered, and labelled with the release that they are."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml

from slipway.catalog.read import include_directory
from slipway.errors import SlipwayError, bounded
from slipway.manifests.plan import ExposedService, Plan, Route, Scaling

Stage = Literal["storage", "workload", "publication"]
Manifest = dict[str, Any]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Rendered:
    """The objects of one release.

    Attributes:
        release: the label value that this release's pods carry: 12 hex digits of a hash over the pods and what
            keeps them, but not how many. A plan that changes neither restarts nothing.
        stages: the objects of each stage, in the order in which they are applied.
    """

    release: str
    stages: dict[Stage, list[Manifest]]

    def to_bytes(self) -> bytes:
        """The canonical form that a release stores."""
        return json.dumps({"release": self.release, "stages": self.stages}, sort_keys=True).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Rendered:
        """Read back what ``to_bytes`` wrote."""
        content = json.loads(data)
        return Rendered(release=content["release"], stages=content["stages"])

    @property
    def digest(self) -> str:
        """The sha256 of the stored bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def objects(self) -> list[Manifest]:
        """All objects in the order in which they are applied."""
        return [manifest for stage in self.stages.values() for manifest in stage]

    def to_yaml(self) -> str:
        """All objects as one multi-document YAML text."""
        return yaml_of(self.objects())


class _Dumper(yaml.SafeDumper):
    """Escapes the line breaks of YAML 1.1 that no other quoting keeps; PyYAML's own dumper turns NEL into a blank."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return a text, in double quotes where it needs them."""
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def yaml_of(objects: Iterable[Manifest]) -> str:
    """Write objects as one multi-document YAML text, which reads back as just these objects."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def service_name(plan: Plan, *, release: str | None) -> str:
    """The name of the Service of one release, or of the published one when ``release`` is None."""
    return f"{plan.object_name}-r-{release[:8]}" if release else plan.object_name


def service_url(plan: Plan, *, release: str | None, port: int | None = None) -> str:
    """The URL of that Service as pods of the cluster reach it, at the serving port unless another is given."""
    host = f"{service_name(plan, release=release)}.{plan.namespace}.svc"
    return f"http://{host}:{port or plan.server.port}"


def render(plan: Plan, *, include: Path | None = None) -> Rendered:
    """Render all objects of a plan. Pure: the same plan and templates give the same bytes.

    Raises:
        SlipwayError: a template does not give the one object that it should.
    """
    include = include or include_directory()
    unlabelled = _controller(plan, release="0" * 12, include=include)
    release = hashlib.sha256(json.dumps(_pods_of(unlabelled), sort_keys=True).encode()).hexdigest()[:12]
    return Rendered(
        release=release,
        stages={
            "storage": _storage(plan, include=include),
            "workload": _workload(plan, release=release, include=include),
            "publication": _publication(plan, release=release, include=include),
        },
    )


def _pods_of(controller: Manifest) -> Manifest:
    """What decides whether pods are replaced: all of their controller but how many there are."""
    spec = {key: value for key, value in controller["spec"].items() if key != "replicas"}
    return {"kind": controller["kind"], "name": controller["metadata"]["name"], "spec": spec}


def _controller(plan: Plan, *, release: str, include: Path) -> Manifest:
    template = f"{plan.controller.lower()}.yaml.j2"
    return render_one(template, include=include, plan=plan, release=release)


def _storage(plan: Plan, *, include: Path) -> list[Manifest]:
    def one(template: str, **values: Any) -> Manifest:
        return render_one(f"{template}.yaml.j2", include=include, plan=plan, **values)

    dataset = plan.weights.dataset
    match plan.weights.provider:
        case "download":
            objects = [one("pvc")]
        case "static":
            objects = [one("persistent-volume"), one("pvc")]
        case "fluid":
            objects = [one("fluid-dataset"), one("jindo-runtime"), one("data-load")]
        case "dataset":
            objects = [one("dataset", reference=False)]
            if dataset and dataset.namespace not in (None, plan.namespace):
                objects.append(one("dataset", reference=True))
    return [*objects, one("compile-cache")] if plan.server.compile_cache else objects


def _workload(plan: Plan, *, release: str, include: Path) -> list[Manifest]:
    objects = [
        _service("release", service_name(plan, release=release), plan, release=release, include=include)
    ]
    if plan.controller == "StatefulSet":
        pods = _service("pods", f"{plan.object_name}-pods", plan, release=release, include=include)
        objects.insert(0, pods)
    objects.append(_controller(plan, release=release, include=include))
    if plan.disruption_budget:
        objects.append(render_one("pod-disruption-budget.yaml.j2", include=include, plan=plan))
    if plan.network_policy:
        objects.append(render_one("network-policy.yaml.j2", include=include, plan=plan))
    return objects


def _publication(plan: Plan, *, release: str, include: Path) -> list[Manifest]:
    publication = plan.publication
    objects = [_service("published", plan.object_name, plan, release=release, include=include)]
    objects += [
        _service("exposed", one.name, plan, release=release, include=include, exposed=one)
        for one in publication.services
    ]
    if publication.ingress:
        objects.append(render_one("ingress.yaml.j2", include=include, plan=plan))
    if publication.route:
        objects.append(
            render_one("http-route.yaml.j2", include=include, route=_route(plan, publication.route))
        )
    if plan.service_monitor is not None:
        objects.append(render_one("service-monitor.yaml.j2", include=include, plan=plan))
    if plan.scaling:
        objects.append(autoscaler(plan, plan.scaling, include=include))
    return objects


def autoscaler(plan: Plan, scaling: Scaling, *, include: Path | None = None) -> Manifest:
    """The object that sets an endpoint's replicas by load."""
    kind = "horizontal-pod-autoscaler" if scaling.rule.by == "hpa" else "scaled-object"
    scaled = plan.model_copy(update={"scaling": scaling})
    return render_one(f"{kind}.yaml.j2", include=include, plan=scaled)


def _service(
    role: str,
    name: str,
    plan: Plan,
    *,
    release: str,
    include: Path,
    exposed: ExposedService | None = None,
) -> Manifest:
    values = {"plan": plan, "release": release, "role": role, "name": name, "exposed": exposed}
    return render_one("service.yaml.j2", include=include, **values)


def _route(plan: Plan, route: Route) -> dict[str, Any]:
    return {
        "name": plan.object_name,
        "namespace": plan.namespace,
        "labels": {**plan.labels, **plan.house_labels("published", None)},
        "gateway": route.gateway,
        "gateway_namespace": route.gateway_namespace,
        "section": route.section,
        "host": route.exposure.host,
        "path": route.exposure.path,
        "allow_origin": route.exposure.allow_origin,
        "cors_filter": route.cors_filter,
        "timeout_seconds": route.exposure.timeout_seconds,
        "service": plan.object_name,
        "service_namespace": None,
        "port": plan.server.port,
    }


def render_one(template: str, *, include: Path | None = None, **values: Any) -> Manifest:
    """Render one template to the one object that it describes.

    Raises:
        SlipwayError: it uses an unknown value, or what comes out is not one YAML mapping.
    """
    include = include or include_directory()
    try:
        text = _environment(include).get_template(template).render(values)
        documents = list(_documents(text))
    except (jinja2.TemplateError, yaml.YAMLError, TypeError) as error:
        raise SlipwayError(
            "a template cannot be rendered", about=f"include/templates/{template}", why=bounded(str(error))
        ) from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise SlipwayError("a template must give one object", about=f"include/templates/{template}")
    return documents[0]


def _documents(text: str) -> Iterator[Any]:
    return (document for document in yaml.load_all(text, Loader=_Loader) if document is not None)


_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


def yaml_value(value: Any) -> str:
    r"""Write a value so that a YAML parser reads exactly it, in ASCII: the ``tojson`` of the templates.

    JSON is nearly YAML. What YAML refuses is written in YAML's way: a character outside the basic plane as
    ``\U`` and eight digits (JSON writes two surrogates), DEL as an escape.
    """

    def one_escape(pair: re.Match[str]) -> str:
        high, low = (int(part, 16) for part in pair.groups())
        return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"

    return _SURROGATES.sub(one_escape, json.dumps(value, sort_keys=True)).replace("\x7f", "\\x7f")


def _merged(first: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Join mappings for a template; what comes later takes the place of what came before."""
    return {key: value for one in (first, *others) for key, value in one.items()}


@cache
def _environment(include: Path) -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701 - YAML, not HTML: values go through tojson
        loader=jinja2.FileSystemLoader(include / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tojson"] = yaml_value
    environment.filters["merged"] = _merged
    environment.filters["dirname"] = posixpath.dirname
    environment.filters["basename"] = posixpath.basename
    environment.globals["drain_script"] = (include / "templates" / "drain.py").read_text(encoding="utf-8")
    return environment
