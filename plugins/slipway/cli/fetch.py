"""``slipway fetch``: what a download pod does, in a terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pydantic import ValidationError

from slipway.errors import UsageError
from slipway.pods import EXIT_INTERRUPTED, describe_invalid
from slipway.weights.bring import bring
from slipway.weights.orders import FetchOrder


def fetch(options: argparse.Namespace) -> int:
    """Bring weights from a source into a directory, verified."""
    try:
        result = bring(_order(options))
    except KeyboardInterrupt:
        print("slipway: interrupted; the same command goes on with what has arrived", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(
        f"{result.destination}: {result.files} files, {result.bytes_total} bytes, verified: {result.verified}"
    )
    return 0


def _order(options: argparse.Namespace) -> FetchOrder:
    source: str = options.source
    if options.revision:
        if not source.startswith("modelscope://") or "?" in source:
            raise UsageError(
                "a revision is for a hub's model, and is named once",
                about=source,
                remedy="modelscope://org/name --revision v1.0",
            )
        source = f"{source}?revision={options.revision}"
    order: dict[str, Any] = {
        "source": source,
        "destination": str(options.directory.absolute()),
        "verify": options.verify,
    }
    if options.endpoint_url:
        order["s3"] = {"endpoint_url": options.endpoint_url}
    try:
        return FetchOrder.model_validate(order)
    except ValidationError as error:
        raise UsageError("this cannot be fetched", about=source, why=describe_invalid(error)) from error
