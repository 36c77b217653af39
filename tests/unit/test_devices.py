"""What pods ask for on each accelerator of the catalog, and what its device plugin, scheduler or cloud refuses."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from slipway.catalog.quantities import quantity
from slipway.catalog.records import Accelerator, AcceleratorChange, Cluster, Endpoint, Runtime
from slipway.manifests.devices import PodDevices, device_faults, device_of, devices_for

RECORDS = Path(__file__).resolve().parents[2] / "include" / "catalog" / "accelerators"
NAMES = sorted(path.stem for path in RECORDS.glob("*.yaml"))


@cache
def accelerator(name: str) -> Accelerator:
    return Accelerator.model_validate(yaml.safe_load((RECORDS / f"{name}.yaml").read_text(encoding="utf-8")))


def cluster(level: str = "privileged", **change: Any) -> Cluster:
    return Cluster.model_validate(
        {
            "name": "c",
            "connection": "c",
            "registry": "localhost/x",
            "storage": {"storage_class": "s"},
            "accelerators": {"a": change},
            "pod_security": level,
        }
    )


def runtime(**more: Any) -> Runtime:
    return Runtime.model_validate(
        {"name": "r", "task": "chat", "program": "vllm", "images": {"nvidia": "x"}, **more}
    )


def endpoint(**more: Any) -> Endpoint:
    common = {
        "name": "e",
        "model": "m",
        "runtime": "r",
        "accelerator": "a",
        "cluster": "c",
        "namespace": "n",
        "resources": {"cpu": "8", "memory": "64Gi"},
        "volume": {"size": "1Ti"},
    }
    return Endpoint.model_validate({**common, **more})


def devices(
    name: str, *, change: dict[str, Any] | None = None, program: str = "vllm", **more: Any
) -> PodDevices:
    device = device_of(accelerator(name), AcceleratorChange.model_validate(change or {}))
    return devices_for(endpoint(**more), device, program=program)


def faults(
    name: str, *, its: Runtime | None = None, level: str = "privileged", change: Any = None, **more: Any
) -> dict[str, str]:
    where = cluster(level, **(change or {}))
    device = device_of(accelerator(name), where.accelerators["a"])
    found = device_faults(endpoint(**more), device, cluster=where, runtime=its or runtime())
    return {fault.field: fault.message for fault in found}


# -- what pods ask for ---------------------------------------------------------------------------------------

HOST = {"cpu": "8", "memory": "64Gi"}
ASKED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "cpu": ("cpu", {}, {}),
    "whole cards": ("nvidia-h100-80g", {"cards": 8}, {"nvidia.com/gpu": "8"}),
    "a MIG slice": ("nvidia-a100-mig-3g.40gb", {"cards": 1}, {"nvidia.com/mig-3g.40gb": "1"}),
    "simulated cards": ("nvidia-simulated", {"cards": 1}, {"nvidia.com/gpu": "1"}),
    "whole cards by HAMi": ("hami-nvidia", {"cards": 2}, {"nvidia.com/gpu": "2"}),
    "HAMi's memory is per card, in MiB": (
        "hami-nvidia",
        {"cards": 8, "share": {"memory": "79872Mi", "cores": 50}},
        {"nvidia.com/gpu": "8", "nvidia.com/gpumem": "79872", "nvidia.com/gpucores": "50"},
    ),
    "Cambricon counts 256 MiB": (
        "hami-cambricon",
        {"cards": 1, "share": {"memory": "16Gi", "cores": 30}},
        {
            "cambricon.com/vmlu": "1",
            "cambricon.com/mlu.smlu.vmemory": "64",
            "cambricon.com/mlu.smlu.vcore": "30",
        },
    ),
    "Hygon": (
        "hami-hygon",
        {"cards": 2, "share": {"memory": "32Gi", "cores": 60}},
        {"hygon.com/dcunum": "2", "hygon.com/dcumem": "32768", "hygon.com/dcucores": "60"},
    ),
    "Iluvatar counts 256 MiB": (
        "hami-iluvatar",
        {"cards": 1, "share": {"memory": "16Gi", "cores": 50}},
        {
            "iluvatar.ai/BI-V150-vgpu": "1",
            "iluvatar.ai/BI-V150.vMem": "64",
            "iluvatar.ai/BI-V150.vCore": "50",
        },
    ),
    "Moore Threads counts 512 MiB and sixteenths of the cores, rounded up": (
        "hami-mthreads",
        {"cards": 1, "share": {"memory": "16Gi", "cores": 30}},
        {"mthreads.com/vgpu": "1", "mthreads.com/sgpu-memory": "32", "mthreads.com/sgpu-core": "5"},
    ),
    "an Ascend slice": (
        "hami-ascend-910b3",
        {"cards": 1, "share": {"memory": "16Gi"}},
        {"huawei.com/Ascend910B3": "1", "huawei.com/Ascend910B3-memory": "16384"},
    ),
    "whole Ascend cards by HAMi": ("hami-ascend-910b3", {"cards": 8}, {"huawei.com/Ascend910B3": "8"}),
    "whole Ascend cards": ("ascend-910b", {"cards": 8}, {"huawei.com/Ascend910": "8"}),
    "MetaX counts GiB": (
        "hami-metax",
        {"cards": 1, "share": {"memory": "32Gi", "cores": 25}},
        {"metax-tech.com/sgpu": "1", "metax-tech.com/vmemory": "32", "metax-tech.com/vcore": "25"},
    ),
    "whole MetaX cards": ("metax-c500", {"cards": 4}, {"metax-tech.com/gpu": "4"}),
    "ACS limits the cpu to what is requested": (
        "acs-h20",
        {"cards": 8},
        {"nvidia.com/gpu": "8", "cpu": "8"},
    ),
    "PPU": ("acs-ppu", {"cards": 16}, {"alibabacloud.com/ppu": "16", "cpu": "8"}),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_pods_ask_for(case: str) -> None:
    name, more, limits = ASKED[case]
    pod = devices(name, **more)
    assert pod.limits == {"memory": "64Gi", **limits}
    counted = accelerator(name).resource
    assert pod.requests == {**HOST, **({counted: limits[counted]} if counted else {})}
    assert faults(name, **more) == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_complete(name: str) -> None:
    record = accelerator(name)
    assert record.name == name
    assert record.display_name.keys() >= {"enUS", "zhCN"}
    assert record.notes or name == "cpu"
    for amount in [record.card_memory, record.share and record.share.unit]:
        assert amount is None or quantity(amount) > 0
    if record.offered_by == "hami":
        assert {"node_name", "scheduler_name"} <= set(record.refuses)
    if record.offered_by == "acs":
        assert record.guaranteed
        assert {"node_port", "host_path", "host_network"} <= set(record.refuses)


def test_every_vendor_of_hami_can_be_shared() -> None:
    by_hami = {record.kind: record for name in NAMES if (record := accelerator(name)).offered_by == "hami"}
    assert set(by_hami) == {"nvidia", "cambricon", "hygon", "iluvatar", "mthreads", "ascend", "metax"}
    assert all(record.share for record in by_hami.values())


def test_labels_annotations_and_nodes() -> None:
    pod = devices("acs-ppu", cards=16)
    assert pod.labels["alibabacloud.com/gpu-model-series"] == "PPU810E"
    assert pod.labels["alibabacloud.com/compute-class"] == "gpu"
    pod = devices("nvidia-a100-80g", cards=1)
    assert pod.node_affinity == {"nvidia.com/gpu.product": ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"]}
    assert [one.key for one in pod.tolerations] == ["nvidia.com/gpu"]
    assert devices("nvidia-simulated", cards=1).node_selector == {"run.ai/simulated-gpu-node-pool": "default"}
    assert devices("hami-nvidia", cards=1).annotations == {"nvidia.com/use-gputype": "A100,A800,H100,H800"}
    assert devices("hami-mthreads", cards=2).annotations, "HAMi writes into annotations that must be there"


def test_annotations_of_a_share_are_only_on_pods_with_one() -> None:
    policy = "metax-tech.com/sgpu-qos-policy"
    assert devices("hami-metax", cards=1, share={"memory": "8Gi"}).annotations == {policy: "fixed-share"}
    assert devices("hami-metax", cards=1).annotations == {}


def test_arguments_that_several_cards_need() -> None:
    assert devices("hami-nvidia", cards=2).args == ["--disable-custom-all-reduce"]
    assert devices("hami-nvidia", cards=2, program="sglang").args == ["--disable-custom-all-reduce"]
    assert devices("hami-nvidia", cards=1).args == []
    assert devices("hami-nvidia", cards=2, program="other").args == []
    assert devices("nvidia-h100-80g", cards=2).args == []


def test_drivers_from_the_node_are_mounted_read_only() -> None:
    pod = devices("ascend-910b-drivers", cards=1)
    assert {volume["name"] for volume in pod.volumes} == {mount["name"] for mount in pod.volume_mounts}
    assert all(mount["readOnly"] for mount in pod.volume_mounts)


def test_a_cpu_limit_of_ones_own() -> None:
    own = {"cpu": "8", "memory": "64Gi", "cpu_limit": "16"}
    assert devices("cpu", resources=own).limits == {"memory": "64Gi", "cpu": "16"}
    assert devices("cpu").limits == {"memory": "64Gi"}


# -- what one cluster has otherwise --------------------------------------------------------------------------


def test_resource_names_of_ones_own() -> None:
    """The third document's company.com names."""
    own = {
        "resource": "company.com/gpu",
        "share_resource": "company.com/gpumem",
        "cores": "company.com/gpucores",
    }
    pod = devices("hami-nvidia", change=own, cards=2, share={"memory": "16Gi", "cores": 25})
    assert pod.limits == {
        "memory": "64Gi",
        "company.com/gpu": "2",
        "company.com/gpumem": "16384",
        "company.com/gpucores": "25",
    }
    assert devices("hami-nvidia", cards=1).limits["nvidia.com/gpu"] == "1", "the record itself is unchanged"


def test_labels_are_changed_one_by_one_and_nodes_as_a_whole() -> None:
    changed = devices(
        "acs-h20", change={"pod_labels": {"alibabacloud.com/gpu-model-series": "GU8TF"}}, cards=8
    )
    assert changed.labels["alibabacloud.com/gpu-model-series"] == "GU8TF"
    assert changed.labels["alibabacloud.com/compute-class"] == "gpu"
    changed = devices(
        "nvidia-h20-96g", change={"node_affinity": {"pool": ["h20"]}, "tolerations": []}, cards=8
    )
    assert changed.node_affinity == {"pool": ["h20"]}
    assert changed.tolerations == []
    changed = devices("ascend-910b", change={"runtime_class": "ascend"}, cards=1)
    assert changed.runtime_class == "ascend"


def test_a_cluster_that_names_a_share_of_what_has_none() -> None:
    found = faults("acs-h20", change={"share_resource": "company.com/gpumem"}, cards=8)
    assert "gives whole cards only" in found["accelerator"]


# -- what is refused -----------------------------------------------------------------------------------------

HOST_PATH = {"volumes": [{"name": "log", "hostPath": {"path": "/data/logs"}}]}
REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "no card": ("nvidia", {}, {"cards": "at least 1 card (nvidia.com/gpu)"}),
    "cards of a CPU": ("cpu", {"cards": 1}, {"cards": "has no cards"}),
    "a number of cards that is not on the list": (
        "acs-h20",
        {"cards": 3},
        {"cards": "1, 2, 4, 8 cards, not 3"},
    ),
    "several slices of MIG": (
        "nvidia-h100-mig-3g.40gb",
        {"cards": 2},
        {"cards": "gives a pod 1 card, not 2"},
    ),
    "a share of several Ascend cards": (
        "hami-ascend-910b3",
        {"cards": 2, "share": {"memory": "16Gi"}},
        {"cards": "a share of 'hami-ascend-910b3' is of 1 card, not of 2"},
    ),
    "a share of several MLUs": (
        "hami-cambricon",
        {"cards": 4, "share": {"memory": "16Gi"}},
        {"cards": "is of 1 card, not of 4"},
    ),
    "a share of whole cards": (
        "nvidia-a100-80g",
        {"cards": 1, "share": {"memory": "16Gi"}},
        {"share": "gives whole cards only"},
    ),
    "the sum over all cards, as the document has it": (
        "hami-nvidia",
        {"cards": 8, "share": {"memory": "638976Mi"}},
        {"share.memory": "looks like the sum of 8 x 78Gi; write 78Gi"},
    ),
    "more than a card has": (
        "hami-hygon",
        {"cards": 1, "share": {"memory": "65Gi"}},
        {"share.memory": "65Gi is more than a card has: write at most 64Gi"},
    ),
    "an amount between the allowed ones": (
        "hami-mthreads",
        {"cards": 1, "share": {"memory": "20Gi"}},
        {"share.memory": "only 1Gi, 2Gi, 4Gi, 8Gi, 16Gi, 32Gi, 48Gi; nearest: 32Gi"},
    ),
    "an Ascend slice that would be rounded up": (
        "hami-ascend-910b3",
        {"cards": 1, "share": {"memory": "20Gi"}},
        {"share.memory": "only 16Gi, 32Gi; nearest: 32Gi"},
    ),
    "no multiple of the unit": (
        "hami-metax",
        {"cards": 1, "share": {"memory": "1500Mi"}},
        {"share.memory": "not a multiple of 1Gi, the unit of metax-tech.com/vmemory; nearest: 2Gi"},
    ),
    "nothing": ("hami-nvidia", {"cards": 1, "share": {"memory": "0"}}, {"share.memory": "nearest: 1Mi"}),
    "a share of cores where only memory is divided": (
        "hami-ascend-910b3",
        {"cards": 1, "share": {"memory": "16Gi", "cores": 50}},
        {"share.cores": "divides memory, not cores"},
    ),
    "a node by name under HAMi": (
        "hami-nvidia",
        {"cards": 1, "placement": {"node_name": "gpu-1"}},
        {"placement.node_name": "use placement.node_selector (kubernetes.io/hostname: gpu-1)"},
    ),
    "a scheduler under HAMi, even its own": (
        "hami-nvidia",
        {"cards": 1, "placement": {"scheduler": "hami-scheduler"}},
        {"placement.scheduler": "leave hami-scheduler out"},
    ),
    "a NodePort on ACS": (
        "acs-h20",
        {"cards": 1, "exposure": {"services": [{"type": "LoadBalancer"}, {"type": "NodePort"}]}},
        {"exposure.services.1": "has no NodePort Services: use type LoadBalancer"},
    ),
    "the node's network on ACS": (
        "acs-ppu",
        {"cards": 1, "placement": {"host_network": True}},
        {"placement.host_network": "has no host network"},
    ),
    "a directory of the node on ACS": (
        "acs-h20",
        {"cards": 1, "its": runtime(**HOST_PATH)},
        {"runtime": "mounts /data/logs from the node"},
    ),
    "a cpu limit that is not the request on ACS": (
        "acs-h20",
        {"cards": 1, "resources": {"cpu": "16", "memory": "64Gi", "cpu_limit": "64"}},
        {"resources.cpu_limit": "the limit is then cpu (16)"},
    ),
    "a privileged container under HAMi": (
        "hami-nvidia",
        {"cards": 1, "its": runtime(security_context={"privileged": True})},
        {"runtime": "HAMi passes over privileged containers"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    name, more, told = REFUSED[case]
    found = faults(name, **more)
    assert list(found) == list(told)
    for field, message in told.items():
        assert message in found[field]


def test_a_cpu_limit_that_is_the_request_in_another_spelling() -> None:
    own = {"cpu": "16", "memory": "64Gi", "cpu_limit": "16000m"}
    assert faults("acs-h20", cards=1, resources=own) == {}


def test_what_computes_nothing_runs_a_cpus_image() -> None:
    data = accelerator("nvidia-simulated").model_dump()
    with pytest.raises(ValidationError, match="their kind is cpu"):
        Accelerator.model_validate({**data, "kind": "nvidia"})


# -- Pod Security --------------------------------------------------------------------------------------------

RESTRICTED = {
    "pod_security_context": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "security_context": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
LEVELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str, str]] = {
    "the house's context": ("cpu", {}, {}, "restricted", ""),
    "root": ("cpu", {"user": 0}, {}, "baseline", "runtime"),
    "an own context that is restricted": ("cpu", RESTRICTED, {}, "restricted", ""),
    "an own context of the pod that says nothing": (
        "cpu",
        {"pod_security_context": {"fsGroup": 0}},
        {},
        "baseline",
        "runtime",
    ),
    "an own context that keeps capabilities": (
        "cpu",
        {"security_context": {"allowPrivilegeEscalation": False}},
        {},
        "baseline",
        "runtime",
    ),
    "a capability beyond the usual": (
        "cpu",
        {"security_context": {"capabilities": {"add": ["IPC_LOCK"]}}},
        {},
        "privileged",
        "runtime",
    ),
    "a privileged init container": (
        "cpu",
        {"init_containers": [{"name": "i", "securityContext": {"privileged": True}}]},
        {},
        "privileged",
        "runtime",
    ),
    "mounts from the node": ("cpu", HOST_PATH, {}, "privileged", "runtime"),
    "the node's network": (
        "cpu",
        {},
        {"placement": {"host_network": True}},
        "privileged",
        "placement.host_network",
    ),
    "drivers from the node": ("ascend-910b-drivers", {}, {"cards": 1}, "privileged", "accelerator"),
    "a context that is no object": (
        "cpu",
        {"security_context": {"capabilities": 3}},
        {},
        "baseline",
        "runtime",
    ),
}


@pytest.mark.parametrize("case", LEVELS)
def test_which_pod_security_level_is_needed(case: str) -> None:
    """The level itself and all looser ones will do; any stricter one is told with the field that is to blame."""
    name, its, more, needed, field = LEVELS[case]
    levels = ["privileged", "baseline", "restricted"]
    for level in levels:
        found = faults(name, its=runtime(**its), level=level, **more)
        if levels.index(level) <= levels.index(needed):
            assert found == {}, level
        else:
            assert list(found) == [field]
            assert f"enforces {level}" in found[field]
