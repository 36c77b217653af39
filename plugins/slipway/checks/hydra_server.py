"""Checks of Hydra's global cluster: Hydra itself, Istio, and the database and cache that its configuration names.

Hydra keeps its configuration in the ConfigMap ``hydra`` of its namespace, ``config.yaml`` of which has
``db_config.dsn`` (DaoCloud's upgrade notes for Hydra 0.17.1). Where a version names Redis was not read anywhere, so it
is looked for under every key with that word. Passwords in it are passed over and told to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slipway.catalog.records import Chart
from slipway.checks.findings import Finding, Report
from slipway.checks.parts import part
from slipway.checks.programs import Program, has_ready_endpoints, install_of, judge, parsed_settings
from slipway.checks.rights import HYDRA_CONFIG, PROGRAMS, SERVICES, SLICES
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.errors import SlipwayError

CHART = "hydra"
CONFIG = "hydra"
_DSN = re.compile(r"^(?P<user>[^:@/]*)(?::.*)?@tcp\((?P<place>[^)]+)\)/(?P<database>[^?]*)")
_PORTS = {"mysql": 3306, "redis": 6379}
_ADDRESS_KEYS = ("addr", "address", "addrs", "addresses", "host", "url")
_ISTIO = Program(
    what="Istio",
    kind="Deployment",
    names=("istiod",),
    labels=(("app", "istiod"),),
    remedy="Make a dedicated mesh in this cluster, with Istio in it",
)


@dataclass(frozen=True)
class Server:
    """A server that Hydra's configuration names.

    Attributes:
        protocol: ``mysql`` or ``redis``.
        user, database: of a database; never a password.
    """

    protocol: str
    host: str
    port: int
    user: str = ""
    database: str = ""

    @property
    def what(self) -> str:
        """In the words of a finding."""
        return "Hydra's MySQL" if self.protocol == "mysql" else "Hydra's Redis"


def server_chart_of(site: Site) -> Chart | None:
    """Hydra's own chart in the cluster's set-up; None where the cluster is not Hydra's global one."""
    charts = site.record.setup.charts if site.record else []
    return next((one for one in charts if one.chart.rpartition("/")[2] == CHART), None)


def check_hydra_server(view: View, site: Site) -> list[Finding]:
    """Hydra and Istio run, its configuration names MySQL and Redis, and Services of these lead to ready pods."""
    report, chart = Report("hydra-server"), server_chart_of(site)
    if chart is None:
        return []
    with part(report, view, "Hydra and Istio", PROGRAMS):
        program = Program(
            what="Hydra",
            kind="Deployment",
            names=(chart.name, "hydra-apiserver"),
            labels=(("app.kubernetes.io/instance", chart.name),),
            chart=CHART,
            remedy=install_of(site, chart),
        )
        report.findings += judge(view, program, site=site, check=report.check)
        report.findings += judge(view, _ISTIO, site=site, check=report.check)
    about = f"ConfigMap {chart.namespace}/{CONFIG}"
    with part(report, view, about, HYDRA_CONFIG):
        if view.one("v1", "ConfigMap", CONFIG, namespace=chart.namespace) is None:
            report.add("blocking", about, "there is no such ConfigMap", install_of(site, chart))
            return report.findings
        found = list(_servers(view, chart))
        for protocol in _PORTS:
            if protocol not in {one.protocol for one in found}:
                told = f"it names no {protocol}: whether Hydra has one is not known"
                report.add(
                    "not checked", about, told, f"kubectl -n {chart.namespace} describe configmap {CONFIG}"
                )
        for server in found:
            with part(report, view, server.what, SERVICES, SLICES):
                _server(report, view, server, namespace=chart.namespace)
    return report.findings


def servers_of(view: View, site: Site) -> list[Server]:
    """The servers that Hydra's configuration names; none where this is no global cluster or it cannot be read."""
    chart = server_chart_of(site)
    if chart is None:
        return []
    try:
        return list(_servers(view, chart))
    except SlipwayError:
        return []  # the check of Hydra says so


def _servers(view: View, chart: Chart) -> Iterator[Server]:
    found = view.one("v1", "ConfigMap", CONFIG, namespace=chart.namespace) or {}
    seen = set()
    for mapping in parsed_settings(found):
        for server in (*_databases(mapping), *_caches(mapping)):
            if server not in seen:
                seen.add(server)
                yield server


def _databases(mapping: dict[str, Any]) -> Iterator[Server]:
    parts = _DSN.match(str(mapping.get("dsn", "")))
    if parts and str(mapping.get("dbType", "mysql")) == "mysql":
        host, port = _place(parts["place"], _PORTS["mysql"])
        yield Server("mysql", host, port, user=parts["user"], database=parts["database"])


def _caches(mapping: dict[str, Any]) -> Iterator[Server]:
    for key, value in mapping.items():
        if "redis" not in str(key).lower():
            continue
        settings = value if isinstance(value, dict) else {"addr": value}
        for name in _ADDRESS_KEYS:
            told = settings.get(name)
            first = told[0] if isinstance(told, list) and told else told
            if isinstance(first, str) and first:
                # redis://:password@host:port/0
                bare = first.rpartition("://")[2].rpartition("@")[2].partition("/")[0]
                port = str(settings.get("port", ""))
                default = int(port) if port.isdigit() else _PORTS["redis"]
                yield Server("redis", *_place(bare, default))
                break


def _place(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon and port.isdigit() else (text, default)


def _server(report: Report, view: View, server: Server, *, namespace: str) -> None:
    about = f"{server.what} at {server.host}:{server.port}"
    names = server.host.split(".")
    place = (
        names[1] if len(names) > 1 and names[2:3] in ([], ["svc"]) else namespace if len(names) == 1 else ""
    )
    if not place or names[0].isdigit():
        report.add(
            "not checked", about, "it is outside this cluster's Services: only a pod can ask it (--active)"
        )
        return
    service = view.one("v1", "Service", names[0], namespace=place)
    look = f"kubectl -n {place} get service,endpointslices,pods"
    if service is None:
        report.add("blocking", about, f"there is no Service {place}/{names[0]}", look)
    elif server.port not in [one["port"] for one in service["spec"].get("ports") or []]:
        ports = ", ".join(str(one["port"]) for one in service["spec"].get("ports") or [])
        report.add("blocking", about, f"Service {place}/{names[0]} has port {ports or 'none'}", look)
    elif not has_ready_endpoints(view, namespace=place, service=names[0]):
        report.add("blocking", about, f"Service {place}/{names[0]} leads to no ready pod", look)
    else:
        report.add("ok", about, f"Service {place}/{names[0]} leads to a ready pod; --active asks it")
