"""What only a node's own files tell: its C library, and which container runtime is the default.

No API has either, and a pod sees its image's library, not the node's. A pod that mounts the node's files can read them,
which only a namespace of Pod Security level privileged lets in; so it is made only where a person has named one
(``--node-pods``). It mounts read-only, runs as nobody and is deleted whatever happens.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slipway.checks.cards import offered
from slipway.checks.findings import Finding, Report
from slipway.checks.nodes import is_ready
from slipway.checks.subject import Site, Subject
from slipway.checks.trial_pod import clear_away, pod_of, running, trial_name
from slipway.checks.view import View
from slipway.cluster.objects import Object
from slipway.errors import SlipwayError

GLIBC = ((2, 17), (2, 30))
"""HAMi's table: from 2.17 on and below 2.30. Newer ones are in wide use with it, so they are no fault, but a word."""

MOST_NODES = 50
_SIDE_BY_SIDE = 10
_TABLE = "HAMi's table asks for glibc >= 2.17 and < 2.30"
_OPT_IN = "Name a namespace of Pod Security level privileged: slipway check {cluster} --node-pods NAMESPACE"


def check_node_files(view: View, site: Site) -> list[Finding]:
    """The C library and the default container runtime of nodes are what HAMi asks for, where a person let us look."""
    report = Report("node-files")
    about = "glibc and default container runtime of the nodes"
    tools = next((one for one in site.endpoints if one.tools_image), None)
    if site.node_pods is None:
        told = f"{_TABLE} and nvidia as default runtime; no API tells them, and pods do not see the node's"
        report.add("not checked", about, told, _OPT_IN.format(cluster=site.name))
        return report.findings
    if tools is None:
        report.add("not checked", about, "no endpoint of this cluster says which image could look")
        return report.findings
    nodes = [one for one in view.nodes() if is_ready(one)]
    clear_away(view.cluster, namespace=site.node_pods)
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE, thread_name_prefix="node") as pool:
        for found in pool.map(lambda node: _node(view, site, tools, node), nodes[:MOST_NODES]):
            report.findings += found
    if len(nodes) > MOST_NODES:
        told = f"at most {MOST_NODES} nodes are looked at in one run"
        report.add("not checked", f"{len(nodes) - MOST_NODES} more nodes", told)
    return report.findings


def _node(view: View, site: Site, tools: Subject, node: Object) -> list[Finding]:
    name, report = node["metadata"]["name"], Report("node-files")
    anywhere = tools.model_copy(
        update={
            "namespace": site.node_pods,
            "node_selector": {"kubernetes.io/hostname": node["metadata"]["labels"]["kubernetes.io/hostname"]},
            "node_affinity": {},
            "tolerations": ({"operator": "Exists"},),
        }
    )
    pod = pod_of(anywhere, [{"do": "host"}], name=trial_name("node"), host=True)
    try:
        with running(view.cluster, pod) as (_, [answer]):
            _judge(report, f"Node {name}", answer, nvidia=_has_nvidia(site, node))
    except SlipwayError as error:
        report.add("not checked", f"Node {name}", f"{error.what}: {error.why}", error.remedy)
    return report.findings


def _has_nvidia(site: Site, node: Object) -> bool:
    return any(
        one.kind == "nvidia" and one.offered_by == "hami" and offered(node, one.resource)
        for one in site.devices
    )


def _judge(report: Report, about: str, answer: dict[str, Any], *, nvidia: bool) -> None:
    if not answer["ok"]:
        report.add("not checked", about, answer["told"])
        return
    version, runtime = answer["glibc"], answer["runtime"]
    if not version:
        report.add("not checked", about, "no glibc was found in its usual places")
    elif not GLIBC[0] <= tuple(map(int, version.split("."))) < GLIBC[1]:
        report.add(
            "warning", about, f"glibc {version}; {_TABLE}", "Use a node image with such a library for HAMi"
        )
    else:
        report.add("ok", about, f"glibc {version}")
    if not nvidia:
        return
    if runtime == "nvidia":
        report.add("ok", about, "nvidia is the default container runtime")
    elif runtime:
        mend = "On the node: nvidia-ctk runtime configure --runtime=containerd --set-as-default"
        report.add("blocking", about, f"its default container runtime is {runtime}, HAMi needs nvidia", mend)
    else:
        report.add("not checked", about, "its container runtime's configuration names no default runtime")
