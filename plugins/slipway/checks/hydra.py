"""Checks of a Hydra worker cluster: its agent runs and is configured as the cluster's record says.

What is compared are the four settings that Hydra's own guide names, wherever in the agent's ConfigMap they are: where
exactly a version of the chart puts them was not read off a real installation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import yaml

from slipway.catalog.records import Chart
from slipway.checks.findings import Finding, Report
from slipway.checks.parts import part
from slipway.checks.programs import Program, judge
from slipway.checks.rights import HYDRA_CONFIG, PROGRAMS
from slipway.checks.subject import Site
from slipway.checks.view import View

CHART = "hydra-agent"
CONFIG = "hydra-agent"
SHARED_NAMESPACE = "public"
_AGENT = Program(
    what="Hydra's agent",
    kind="Deployment",
    names=("hydra-agent",),
    labels=(("app.kubernetes.io/name", "hydra-agent"),),
    chart=CHART,
    remedy="Install the chart hydra-agent with the values of: slipway render --cluster NAME --values hydra-agent",
)
_GATEWAY = Program(
    what="Knoway's gateway",
    kind="Deployment",
    names=("knoway-gateway", "hydra-agent-knoway-gateway"),
    chart="knoway",
    remedy="The chart hydra-agent brings it: kubectl -n hydra-system get deployments",
)


def chart_of(site: Site) -> Chart | None:
    """The chart of the agent in the cluster's set-up; None where the cluster is no worker of Hydra."""
    charts = site.record.setup.charts if site.record else []
    return next((one for one in charts if one.chart.rpartition("/")[2] == CHART), None)


def check_hydra(view: View, site: Site) -> list[Finding]:
    """The agent runs with this cluster's name, base URL, server and TLS mode; shared data sets have a namespace."""
    report, chart = Report("hydra"), chart_of(site)
    if chart is None:
        return []
    with part(report, "Hydra's agent and Knoway's gateway", PROGRAMS):
        report.findings += judge(view, _AGENT, site=site, check=report.check)
        report.findings += judge(view, _GATEWAY, site=site, check=report.check)
    wanted: dict[str, Any] = {}
    for mapping in _mappings(chart.values):
        wanted.update(_settings(mapping))
    with part(report, f"ConfigMap {chart.namespace}/{CONFIG}", HYDRA_CONFIG):
        _configuration(report, view, wanted, namespace=chart.namespace)
    _base_url(report, wanted)
    if view.one("v1", "Namespace", SHARED_NAMESPACE) is None:
        told = "Hydra looks for shared data sets in this namespace, and it is not there"
        report.add(
            "blocking", f"Namespace {SHARED_NAMESPACE}", told, f"kubectl create namespace {SHARED_NAMESPACE}"
        )
    return report.findings


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that matter, by the names under which a finding tells them."""
    for key in ("cluster_name", "agent_base_url"):
        if key in config:
            yield key, config[key]
    server = config.get("agent_server")
    for key in ("address", "plaintext", "insecure"):
        if isinstance(server, dict) and key in server:
            yield f"agent_server.{key}", server[key]


def _configuration(report: Report, view: View, wanted: dict[str, Any], *, namespace: str) -> None:
    about = f"ConfigMap {namespace}/{CONFIG}"
    found = view.one("v1", "ConfigMap", CONFIG, namespace=namespace)
    if found is None:
        report.add("blocking", about, "there is no such ConfigMap: the agent is not installed", _AGENT.remedy)
        return
    have: dict[str, Any] = {}
    for text in (found.get("data") or {}).values():
        for mapping in _mappings(_parsed(text)):
            have.update(_settings(mapping))
    for key, value in wanted.items():
        remedy = f"Set it and restart the agent: kubectl -n {namespace} edit configmap {CONFIG}"
        if key not in have:
            report.add("not checked", about, f"{key} is not found in it; it should be {value!r}", remedy)
        elif have[key] != value:
            report.add(
                "blocking", about, f"{key} is {have[key]!r}, the cluster's record says {value!r}", remedy
            )
    if have.get("agent_server.insecure") is True:
        told = "agent_server.insecure is true: whoever answers at its address is taken for Hydra"
        report.add("warning", about, told, "Use it for tests only")
    if wanted and not report.has_faults(about):
        report.add("ok", about, f"{len(wanted)} settings as the cluster's record says")


def _base_url(report: Report, wanted: dict[str, Any]) -> None:
    """Hydra's guide itself has ``http:/cn-sh-a1``, one slash short; such a URL reaches nobody."""
    url = str(wanted.get("agent_base_url", ""))
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc):
        told = f"agent_base_url {url!r} is no address that clients could call"
        report.add("blocking", "the cluster's record", told, "Write it as http://HOST or https://HOST")


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _mappings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _mappings(inner)
