"""Commands that make and rotate an endpoint's API key, as the person at the terminal and nobody else.

A key is in its Secret and, once, on this terminal. Airflow never sees it: runs that start pods anew carry only the
endpoint's name, and pods get the Secret by reference. So these commands use the person's own rights on Secrets, which
Slipway's Role does not have.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from slipway.cli.runs import redeploy_anew
from slipway.cli.shared import cluster_of, plan_of
from slipway.errors import ReleaseError, UsageError

if TYPE_CHECKING:
    from slipway.catalog.records import ApiKey
    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Ref
    from slipway.manifests.plan import Plan

_MANAGER = "slipway-key"


def create(options: argparse.Namespace) -> int:
    """Make the endpoint's key where it has none, and the list of accepted keys where that is missing."""
    held = _held(options)
    if held.key and (held.accepted or held.reference.accepted is None):
        raise UsageError(
            "the endpoint has a key already",
            about=str(held.ref),
            remedy=f"Replace it: slipway key rotate {options.endpoint}",
        )
    there = held.key
    key = there or _new_key()
    held.write(key=key, accepted=[key])
    print(f"{held.ref} holds the key of {options.endpoint}", file=sys.stderr)
    if not there:
        print(key)
    return 0


def rotate(options: argparse.Namespace) -> int:
    """Have a new key accepted beside the old one, and print it.

    The pods are replaced by ones that accept both while those that serve go on; only then do Slipway's own probes use
    the new key. A rotation that was interrupted goes on with the key that it had made.
    """
    held = _held(options)
    old = held.key_there()
    if held.reference.accepted is None:
        return _at_once(options, held, old=old)
    if len(held.accepted) > 1 and old == held.accepted[-1]:
        raise UsageError(
            "the last rotation is not at its end",
            about=str(held.ref),
            why="the key of before is still accepted",
            remedy=f"End it when no client uses that any more: slipway key retire {options.endpoint}",
        )
    new = held.accepted[-1] if len(held.accepted) > 1 else _new_key()
    held.write(key=old, accepted=[old, new])
    if redeploy_anew(options, reason="a second API key"):
        held.write(key=old, accepted=[old])
        raise _not_taken(options, "the new key was taken back and the old one goes on")
    held.write(key=new, accepted=[old, new])
    print(f"both keys are accepted; then: slipway key retire {options.endpoint}", file=sys.stderr)
    print(new)
    return 0


def retire(options: argparse.Namespace) -> int:
    """Have only the new key accepted."""
    held = _held(options)
    new = held.key_there()
    if len(held.accepted) < 2 or held.accepted[-1] != new:
        raise UsageError(
            "there is no old key to retire",
            about=str(held.ref),
            remedy=f"Make a new one first: slipway key rotate {options.endpoint}",
        )
    before = held.accepted
    held.write(key=new, accepted=[new])
    if redeploy_anew(options, reason="the old API key is retired"):
        held.write(key=new, accepted=before)
        raise _not_taken(options, "both keys are accepted as before")
    print("only the new key is accepted", file=sys.stderr)
    return 0


def _at_once(options: argparse.Namespace, held: _Held, *, old: str) -> int:
    """Replace the only key that a program takes: clients that have the old one fail from then on."""
    if not options.at_once:
        raise UsageError(
            "the endpoint accepts one key at a time",
            about=options.endpoint,
            why="its clients would fail from the moment of the change until they have the new one",
            remedy="Set api_key.accepted in its record where its program takes several keys (docs/keys.md), "
            "or change it with --at-once",
        )
    new = _new_key()
    held.write(key=new, accepted=[])
    if redeploy_anew(options, reason="another API key"):
        held.write(key=old, accepted=[])
        raise _not_taken(options, "the old key goes on")
    print("the old key is refused from now on", file=sys.stderr)
    print(new)
    return 0


@dataclass
class _Held:
    """What the Secret of an endpoint's key holds; its values are never part of what is printed of it."""

    cluster: Cluster
    ref: Ref
    reference: ApiKey
    data: Mapping[str, str] | None

    def __repr__(self) -> str:
        return f"_Held({self.ref})"

    @property
    def key(self) -> str:
        """The key that Slipway's own requests use; "" where there is none."""
        return base64.b64decode((self.data or {}).get(self.reference.key, "")).decode().strip()

    @property
    def accepted(self) -> list[str]:
        """All keys that the pods accept from their next start on, the newest last; empty where there is no list."""
        packed = (self.data or {}).get(self.reference.accepted or "", "")
        content = yaml.safe_load(base64.b64decode(packed)) if packed else {}
        return [str(one) for one in (content or {}).get("api-key") or []]

    def key_there(self) -> str:
        """The key.

        Raises:
            UsageError: there is none.
        """
        if not self.key:
            raise UsageError("there is no key to replace", about=str(self.ref), remedy="slipway key create")
        return self.key

    def write(self, *, key: str, accepted: list[str]) -> None:
        """Keep a key, and the list of those that are accepted where the record names one."""
        values = {self.reference.key: key}
        if self.reference.accepted:
            values[self.reference.accepted] = json.dumps({"api-key": accepted})
        data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
        if self.data is None:
            metadata = {"name": self.ref.name, "namespace": self.ref.namespace}
            self.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        else:
            self.cluster.patch(self.ref, {"data": data}, manager=_MANAGER)
        self.data = {**(self.data or {}), **data}


def _held(options: argparse.Namespace) -> _Held:
    from slipway.cluster.faults import ApiError
    from slipway.cluster.objects import Ref

    plan: Plan = plan_of(options)
    if plan.api_key is None:
        raise UsageError(
            "the endpoint has no API key",
            about=options.endpoint,
            remedy=f"Name its Secret in catalog/endpoints/{plan.endpoint}.yaml: api_key: {{secret: NAME}}",
        )
    cluster = cluster_of(plan, options)
    place = {"namespace": plan.namespace, "name": plan.api_key.secret}
    try:
        found = cluster.get(api_version="v1", kind="Secret", **place)
    except ApiError as error:
        if error.status != 403:
            raise
        raise UsageError(
            "this login may not see the Secret",
            about=f"Secret {plan.namespace}/{plan.api_key.secret}",
            why="keys are made by people, with their own rights",
            remedy="Name the kubeconfig of somebody who may change it with --kubeconfig",
        ) from error
    data = None if found is None else found.get("data") or {}
    return _Held(
        cluster=cluster, ref=Ref(apiVersion="v1", kind="Secret", **place), reference=plan.api_key, data=data
    )


def _new_key() -> str:
    return f"sk-{secrets.token_urlsafe(32)}"


def _not_taken(options: argparse.Namespace, outcome: str) -> ReleaseError:
    return ReleaseError(
        "the pods were not replaced",
        about=options.endpoint,
        why=outcome,
        remedy="See the failure of the run above",
    )
