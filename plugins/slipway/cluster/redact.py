"""Text and objects without secrets, for evidence that people and other systems will read."""

from __future__ import annotations

import re
from typing import Any

from slipway.cluster.objects import Object

HIDDEN = "[redacted]"

# A name that ends so usually has a value that nobody else should read.
_NAMED = (
    r"(?:api[_-]?key|access[_-]?key(?:[_-]?id)?|secret(?:[_-]?(?:access[_-]?)?key)?"
    r"|token|passw(?:or)?d|credentials?)"
)
_PATTERNS = (
    re.compile(rf"(?i)(\b[\w-]*{_NAMED}[\"']?\s*[:=]\s*[\"']?)([^\s\"',;&)}}\]]+)"),
    re.compile(rf"(?i)(--{_NAMED}[= ])(\S+)"),
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)([\w.~+/=-]{8,})"),
    re.compile(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)([^&\s\"']+)"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:@]*:)([^/\s@]+)(?=@)"),
)
_BARE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{12,}|eyJ[\w-]{10,}\.[\w-]+\.[\w-]*)"
)


def redact(text: str) -> str:
    """Return text with the values of what looks like a secret replaced.

    A net, not a proof: a secret that looks like any other word passes. What is known to be secret never
    belongs into a log in the first place.
    """
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _BARE.sub(HIDDEN, text)


def without_values(obj: Object) -> Object:
    """Return an object without what may hold secrets: env values, Secret data, and copies kept for kubectl.

    References (which Secret, which key) stay: they are what a reader needs.
    """
    return {
        key: _clean(value)
        for key, value in obj.items()
        if not (obj.get("kind") == "Secret" and key in ("data", "stringData"))
    }


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {key: _clean(item) for key, item in value.items() if key != "managedFields"}
        annotations = cleaned.get("annotations")
        if isinstance(annotations, dict):
            annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
        if isinstance(cleaned.get("env"), list):
            cleaned["env"] = [{**e, "value": HIDDEN} if e.get("value") else e for e in cleaned["env"]]
        return cleaned
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return redact(value) if isinstance(value, str) else value
