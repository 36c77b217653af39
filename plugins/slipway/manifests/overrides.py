"""What a run may change about an endpoint; everything else belongs into the catalog."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError

from slipway.catalog.records import Argument, ImageReference, Record, Revision, Source
from slipway.errors import UsageError, bounded


class Overrides(Record):
    """What a run may change about an endpoint.

    Attributes:
        image: another image of the runtime, from a repository that the cluster allows.
        args: flags added to, or replacing, those of runtime and endpoint.
        replicas: pods at creation; a running endpoint keeps what scale or an autoscaler set.
        context_length: the longest context in tokens.
        source, revision: where the weights come from instead, and which version of them.
    """

    image: ImageReference | None = None
    args: list[Argument] = Field(default=[], max_length=64)
    replicas: Annotated[int, Field(ge=0, le=64)] | None = None
    context_length: Annotated[int, Field(gt=0)] | None = None
    source: Source | None = None
    revision: Revision | None = None


def parse_overrides(data: Any) -> Overrides:
    """Read overrides as a form or the REST API gave them.

    Raises:
        UsageError: an unknown key or a value that does not fit; the message names the key.
    """
    try:
        return Overrides.model_validate(data or {})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, fault["loc"]))
        known = ", ".join(Overrides.model_fields)
        if fault["type"] == "extra_forbidden":
            raise UsageError("no such override", about=key, remedy=f"Overrides are: {known}") from error
        why = fault["msg"].removeprefix("Value error, ")
        raise UsageError("an override cannot be used", about=key or "overrides", why=bounded(why)) from error
