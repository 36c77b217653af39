"""The node's own address, the pods' bridge, and taking every trace of both off the machine again."""

from __future__ import annotations

import json
import re
import shutil

from sandbox import commands, settings
from sandbox.settings import Settings
from sandbox.templating import render, write

# Chains that kube-proxy, the kubelet and the CNI plugins make.
_OUR_CHAIN = re.compile(r"^(KUBE-|CNI-)")
_FAMILIES = ("iptables", "ip6tables")


def ensure(config: Settings) -> None:
    """Give the node an address on a device of its own, so that nothing depends on the machine's network.

    The device is a bridge without ports: small kernels lack the dummy device, and none that runs pods lacks bridges.
    """
    if not _device_exists(settings.NODE_DEVICE):
        commands.run(["ip", "link", "add", settings.NODE_DEVICE, "type", "bridge"])
    commands.run(["ip", "address", "replace", f"{settings.NODE_IP}/32", "dev", settings.NODE_DEVICE])
    commands.run(["ip", "link", "set", settings.NODE_DEVICE, "up"])
    # The addresses of Services and load balancers are nobody's: kube-proxy leads what is sent to them to pods. The
    # routes make this machine send it, also where there is no other route, and go with the device. What kube-proxy has
    # no rule for in that moment ends here, and not at the machine's gateway, which may have an answer of its own.
    for addresses in (settings.SERVICE_CIDR, settings.LOAD_BALANCER_CIDR):
        route = ["ip", "route", "replace", addresses, "dev", settings.NODE_DEVICE]
        commands.run([*route, "src", settings.NODE_IP])
    text = render("templates/cni.conflist.j2", bridge=settings.POD_BRIDGE, pod_cidr=settings.POD_CIDR)
    write(config.home / "cni" / "10-slipway.conflist", text)


def remove() -> None:
    """Remove our devices and firewall rules; the pods' ends have gone with their namespaces."""
    for device in (settings.POD_BRIDGE, settings.NODE_DEVICE):
        if _device_exists(device):
            commands.run(["ip", "link", "delete", device])
    for family in _FAMILIES:
        if shutil.which(family):
            _remove_rules(family)


def leftovers() -> list[str]:
    """What of ours is still there: devices, chains."""
    devices = [name for name in _devices() if name in {settings.NODE_DEVICE, settings.POD_BRIDGE}]
    chains = [
        f"{family} chain {line[1:].split()[0]}"
        for family in _FAMILIES
        if shutil.which(family)
        for line in commands.run([f"{family}-save"]).splitlines()
        if line.startswith(":") and _OUR_CHAIN.match(line[1:])
    ]
    return [f"network device {name}" for name in devices] + chains


def _remove_rules(family: str) -> None:
    """In one transaction per table: rules of built-in chains that lead to ours, then our chains."""
    rules: dict[str, list[str]] = {}
    chains: dict[str, list[str]] = {}
    table = ""
    for line in commands.run([f"{family}-save"]).splitlines():
        if line.startswith("*"):
            table = line[1:]
            rules[table], chains[table] = [], []
        elif line.startswith(":") and _OUR_CHAIN.match(line[1:]):
            chains[table].append(line[1:].split()[0])
        elif line.startswith("-A") and not _OUR_CHAIN.match(line[3:]) and re.search(r"-j (KUBE-|CNI-)", line):
            rules[table].append(f"-D{line[2:]}")
    script = "".join(
        "\n".join(
            [f"*{name}", *rules[name], *(f"-F {one}" for one in found), *(f"-X {one}" for one in found)]
        )
        + "\nCOMMIT\n"
        for name, found in chains.items()
        if found
    )
    if script:
        commands.run([f"{family}-restore", "--noflush"], stdin=script)


def _devices() -> list[str]:
    return [link["ifname"] for link in json.loads(commands.run(["ip", "-json", "link", "show"]))]


def _device_exists(name: str) -> bool:
    return name in _devices()
