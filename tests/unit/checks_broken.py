"""How faults are made in a healthy cluster: one field set, one object taken away."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from slipway.cluster.objects import Object
from tests.unit import checks_snapshot as snapshot

Objects = list[Object]


def pick(objects: Objects, kind: str, name: str) -> Object:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def change(kind: str, name: str, where: str, value: Any) -> Callable[[Objects], Objects]:
    """Set one field; ``where`` is a path, and numbers in it are places in a list."""

    def apply(objects: Objects) -> Objects:
        target: Any = pick(objects, kind, name)
        *path, last = where.split("|")
        for step in path:
            target = target[int(step)] if step.isdigit() else target[step]
        if value is None:
            del target[int(last) if last.isdigit() else last]
        else:
            target[int(last) if last.isdigit() else last] = copy.deepcopy(value)
        return objects

    return apply


def without(kind: str, name: str) -> Callable[[Objects], Objects]:
    return lambda objects: [one for one in objects if (one["kind"], one["metadata"]["name"]) != (kind, name)]


def every_node(where: str, value: Any) -> Callable[[Objects], Objects]:
    def apply(objects: Objects) -> Objects:
        for name in ("gpu-1", "gpu-2"):
            change("Node", name, where, value)(objects)
        return objects

    return apply


def state(kind: str, name: str, type_: str, status: str = "False") -> Callable[[Objects], Objects]:
    """Set a condition, with a message."""

    def apply(objects: Objects) -> Objects:
        found = pick(objects, kind, name)["status"]["conditions"]
        found[:] = [one for one in found if one["type"] != type_]
        found.append({"type": type_, "status": status, "message": "so it is", "observedGeneration": 1})
        return objects

    return apply


def listener_state(type_: str) -> Callable[[Objects], Objects]:
    bad = {"type": type_, "status": "False", "message": "so it is"}
    return change("Gateway", "gateway", "status|listeners|1|conditions", [bad])


def hydra(old: str, new: str) -> Callable[[Objects], Objects]:
    return change("ConfigMap", "hydra-agent", "data|config.yaml", snapshot.HYDRA_CONFIG.replace(old, new))


def tls(**more: Any) -> Callable[[Objects], Objects]:
    names = more.pop("names", ("*.models.example",))
    return change(
        "Secret", "models-tls", "data|tls.crt", snapshot.encoded(snapshot.certificate(*names, **more))
    )


def clock(node: str, ahead: float) -> Callable[[Objects], Objects]:
    # Made when it is asked for: a lease that was made as the tests were collected has aged since.
    return lambda objects: change("Lease", node, "spec", snapshot.lease(node, ahead=ahead)["spec"])(objects)


def silent(service: str) -> Callable[[Objects], Objects]:
    return change("EndpointSlice", f"{service}-x", "endpoints", [])


TAINT = [{"key": "role", "value": "bigdata", "effect": "NoSchedule"}]
LEVEL = "metadata|labels|pod-security.kubernetes.io/enforce"

# What is wrong, and what must be found: the check, a part of the object's name, words of the reason, the severity.
Fault = tuple[Callable[[Objects], Objects], str, str, str, str]
