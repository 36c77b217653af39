"""`python -m sandbox.images [NAME…]`: build the named images, or all, and print where each is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sandbox.errors import SandboxError
from sandbox.images import NAMES, ensure_images


def main(arguments: Sequence[str]) -> int:
    """Build the named images, or all, and print where each is."""
    try:
        for each in ensure_images(
            arguments or NAMES, log=lambda line: print(line, file=sys.stderr, flush=True)
        ):
            print(f"{each.reference}\t{each.archive}")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("Stopped: the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
