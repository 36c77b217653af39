"""Checks of a Hydra worker cluster: its agent, configured as the cluster's record says, its route, its data sets.

What is compared are the four settings that Hydra's own guide names, wherever in the agent's ConfigMap they are: where
exactly a version of the chart puts them was not read off a real installation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from slipway.catalog.records import Chart
from slipway.checks.findings import Finding, Report
from slipway.checks.gateway import GROUP, wanted_gateways
from slipway.checks.parts import part
from slipway.checks.programs import Program, install_of, judge, mappings, parsed_settings, render_of
from slipway.checks.rights import DATASET_STATE, GATEWAYS, HYDRA_CONFIG, PROGRAMS
from slipway.checks.routes import judge_route
from slipway.checks.subject import RouteNeed, Site
from slipway.checks.view import View
from slipway.cluster.objects import labels_of

CHART = "hydra-agent"
CONFIG = "hydra-agent"
SHARED_NAMESPACE = "public"
ROUTE, SERVICE, PORT = "hydra-agent-knoway", "knoway-gateway", 8080
DATASETS = "dataset.baizeai.io/v1alpha1"
MODEL_LABEL = "hydra.io/model-id"
"""By this label on a data set Hydra finds the files of a model; its value is the model's name, as the data set's is."""

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
    """The agent runs with this cluster's name, base URL, server and TLS mode; its route and data sets are there."""
    report, chart = Report("hydra"), chart_of(site)
    if chart is None:
        return []
    with part(report, view, "Hydra's agent and Knoway's gateway", PROGRAMS):
        report.findings += judge(view, _AGENT, site=site, check=report.check)
        report.findings += judge(view, _GATEWAY, site=site, check=report.check)
    wanted: dict[str, Any] = {}
    for mapping in mappings(chart.values):
        wanted.update(_settings(mapping))
    with part(report, view, f"ConfigMap {chart.namespace}/{CONFIG}", HYDRA_CONFIG):
        _configuration(report, view, wanted, namespace=chart.namespace, mend=install_of(site, chart))
    _base_url(report, wanted)
    with part(report, view, f"HTTPRoute {chart.namespace}/{ROUTE}", GATEWAYS):
        _route(report, view, site, namespace=chart.namespace)
    if view.one("v1", "Namespace", SHARED_NAMESPACE) is None:
        told = "Hydra looks for shared data sets in this namespace, and it is not there"
        mend = f"kubectl create namespace {SHARED_NAMESPACE}"
        report.add("blocking", f"Namespace {SHARED_NAMESPACE}", told, mend)
    with part(report, view, f"data sets in {SHARED_NAMESPACE}", DATASET_STATE):
        _datasets(report, view, site)
    return report.findings


def _route(report: Report, view: View, site: Site, *, namespace: str) -> None:
    """The route by which models are called; one that the cluster's record has is the check of routes' to judge."""
    if any((one.namespace, one.name) == (namespace, ROUTE) for one in site.routes):
        return
    about = f"HTTPRoute {namespace}/{ROUTE}"
    if not view.has(f"{GROUP}/v1", "HTTPRoute"):
        report.add("not checked", about, "the Gateway API is not installed")
        return
    gateways = sorted(wanted_gateways(site)) or [("default", "gateway")]
    need = RouteNeed(
        namespace=namespace,
        name=ROUTE,
        gateway_namespace=gateways[0][0],
        gateway=gateways[0][1],
        backends=((namespace, SERVICE, PORT),),
    )
    mend = f"Add it to setup.routes of the cluster's record, then: {render_of(site)}"
    judge_route(report, view, need, mend=mend, needed=True)


def _datasets(report: Report, view: View, site: Site) -> None:
    """Data sets that Hydra is to offer are in its namespace and carry the model's name."""
    for subject in site.endpoints:
        api = {one.api_version for one in subject.apis if one.kind == "Dataset"}
        for kind, namespace, name in subject.datasets:
            if kind == "Dataset" and DATASETS in api and namespace != SHARED_NAMESPACE:
                told = f"it is not in {SHARED_NAMESPACE}: Hydra itself will not find it"
                report.add("info", f"Dataset {namespace}/{name}", told)
    if not view.has(DATASETS, "Dataset"):
        return  # the check of the APIs says so where one is needed
    for one in view.all_of(DATASETS, "Dataset", namespace=SHARED_NAMESPACE):
        name, model = one["metadata"]["name"], labels_of(one).get(MODEL_LABEL)
        about = f"Dataset {SHARED_NAMESPACE}/{name}"
        if model != name:
            told = f"label {MODEL_LABEL} is {model or 'missing'}: Hydra looks for the model's name, {name}"
            where = f"-n {SHARED_NAMESPACE} label datasets.dataset.baizeai.io {name}"
            mend = f"kubectl {where} --overwrite {MODEL_LABEL}={name}"
            report.add("warning", about, told, mend)
        else:
            report.add("ok", about, f"for model {model}")


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that matter, by the names under which a finding tells them."""
    for key in ("cluster_name", "agent_base_url"):
        if key in config:
            yield key, config[key]
    server = config.get("agent_server")
    for key in ("address", "plaintext", "insecure"):
        if isinstance(server, dict) and key in server:
            yield f"agent_server.{key}", server[key]


def _configuration(report: Report, view: View, wanted: dict[str, Any], *, namespace: str, mend: str) -> None:
    about = f"ConfigMap {namespace}/{CONFIG}"
    found = view.one("v1", "ConfigMap", CONFIG, namespace=namespace)
    if found is None:
        report.add("blocking", about, "there is no such ConfigMap: the agent is not installed", mend)
        return
    have: dict[str, Any] = {}
    for mapping in parsed_settings(found):
        have.update(_settings(mapping))
    for key, value in wanted.items():
        if key not in have:
            report.add("not checked", about, f"{key} is not found in it; it should be {value!r}", mend)
        elif have[key] != value:
            told = f"{key} is {have[key]!r}, the cluster's record says {value!r}"
            report.add("blocking", about, told, mend)
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
