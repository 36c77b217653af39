"""What keeps a step from being made, in the words of who can lift it."""

from __future__ import annotations

import re

import yaml

from slipway.checks.permissions import role
from slipway.checks.rights import Rule
from slipway.cluster.faults import ApiError
from slipway.errors import SlipwayError

# The API server's own words: pkg/registry/rbac and apiserver/pkg/endpoints/handlers/responsewriters/errors.go.
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
# What a step does with an object besides the one verb that was refused: it would be refused next.
_WITH = {"list": ("get", "list")}
_CHANGES = ("get", "create", "patch")


def reason_of(error: SlipwayError) -> str:
    """Return why something failed, without what a remedy says."""
    subject = f"{error.what} ({error.about})" if error.about else error.what
    return f"{subject}: {error.why}" if error.why else subject


def remedy_of(error: SlipwayError) -> str:
    """Return what lifts an error: for a missing right the rule, ready to apply."""
    if isinstance(error, ApiError) and error.status == 403 and (rule := missing_rule(error.why)):
        return rule
    return error.remedy


def missing_rule(message: str) -> str:
    """Return the role that the API server's refusal asks for, as YAML, and whom to bind it to; "" for other text."""
    found = _FORBIDDEN.search(message)
    if found is None:
        return ""
    resource, namespace = found["resource"], found["namespace"]
    if resource == "namespaces":
        namespace = None  # the server names the namespace itself, which is not there to hold a role
    rule = Rule(
        group=found["group"],
        resources=(resource,),
        verbs=_WITH.get(found["verb"], _CHANGES),
        why="preparing the cluster",
    )
    named = role([rule], name=f"slipway-prepare-{resource.replace('/', '-')}", namespace=namespace)
    text = yaml.safe_dump(named, sort_keys=False).rstrip()
    return (
        f"Apply this and bind it to {found['user']}, or name the connection of somebody who may in setup.connection:\n"
        f"{text}"
    )
