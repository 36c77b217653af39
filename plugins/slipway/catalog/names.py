"""The one rule that makes object names from the catalog's names, and the labels that objects carry."""

from __future__ import annotations

import hashlib

RELEASE_LABEL = "slipway.io/release"
ENDPOINT_LABEL = "slipway.io/endpoint"
MODEL_LABEL = "slipway.io/model"
COLOUR_LABEL = "slipway.io/colour"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

LONGEST_OBJECT_NAME = 40


def green_name(endpoint_object: str) -> str:
    """The name of an endpoint's green workload, of whichever kind; blue is named as if there were no other."""
    return f"{endpoint_object}-green"


def object_name(name: str) -> str:
    """Make the name that Kubernetes objects of an endpoint carry.

    Services must be DNS-1035 labels (RFC 1035: letters, digits and dashes, a letter first, 63 at most), while
    catalog names may have dots and start with a digit. Dots become dashes, a leading digit gets ``m-`` before it,
    and what is longer than 40 characters is cut and ends in a hash of the whole name, which leaves room for
    suffixes. Two names can still meet (``a.b`` and ``a-b``): validation refuses such a catalog.
    """
    cleaned = name.replace(".", "-")
    if cleaned[0].isdigit():
        cleaned = f"m-{cleaned}"
    if len(cleaned) <= LONGEST_OBJECT_NAME:
        return cleaned
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{cleaned[: LONGEST_OBJECT_NAME - 9].rstrip('-')}-{digest}"
