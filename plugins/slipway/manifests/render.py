"""A plan's objects as bytes: rendered, parsed, ordered, and labelled with the release that they are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml

from slipway.catalog.read import include_directory
from slipway.errors import SlipwayError, bounded
from slipway.manifests.plan import Plan

Stage = Literal["storage", "workload", "publication"]
Manifest = dict[str, Any]

RELEASE_LABEL = "slipway.io/release"
ENDPOINT_LABEL = "slipway.io/endpoint"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Rendered:
    """The objects of one release.

    Attributes:
        release: the label value that this release's pods carry: 12 hex digits of a hash over all objects. An
            unchanged plan has an unchanged label, so that applying it again restarts nothing.
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
        return yaml.safe_dump_all(self.objects(), sort_keys=False, allow_unicode=True, width=110)


def service_name(plan: Plan, *, release: str | None) -> str:
    """The name of the Service of one release, or of the published one when ``release`` is None."""
    return f"{plan.object_name}-r-{release[:8]}" if release else plan.object_name


def service_url(plan: Plan, *, release: str | None) -> str:
    """The URL of that Service as pods of the cluster reach it."""
    return f"http://{service_name(plan, release=release)}.{plan.namespace}.svc:{plan.server.port}"


def render(plan: Plan, *, include: Path | None = None) -> Rendered:
    """Render all objects of a plan. Pure: the same plan and templates give the same bytes.

    Raises:
        SlipwayError: a template does not give the one object that it should.
    """
    include = include or include_directory()
    unlabelled = _render_stages(plan, release="0" * 12, include=include)
    release = hashlib.sha256(json.dumps(unlabelled, sort_keys=True).encode()).hexdigest()[:12]
    return Rendered(release=release, stages=_render_stages(plan, release=release, include=include))


def _render_stages(plan: Plan, *, release: str, include: Path) -> dict[Stage, list[Manifest]]:
    def service(role: str, name: str) -> Manifest:
        return render_one(
            "service.yaml.j2", include=include, plan=plan, release=release, role=role, name=name
        )

    return {
        "storage": [render_one("pvc.yaml.j2", include=include, plan=plan, release=release)],
        "workload": [
            service("pods", f"{plan.object_name}-pods"),
            service("release", service_name(plan, release=release)),
            render_one("statefulset.yaml.j2", include=include, plan=plan, release=release),
        ],
        "publication": [service("published", service_name(plan, release=None))],
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
    except (jinja2.TemplateError, yaml.YAMLError) as error:
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
    return environment
