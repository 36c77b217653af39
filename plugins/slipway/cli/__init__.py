"""``slipway``: the terminal's way to the same code.

Exit status 0 is success, 2 a user's mistake, 1 all else (``diff`` has its own, as diff programs do).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from slipway.cli.parser import make_parser
from slipway.errors import SlipwayError

# As a shell reports a program that the signal SIGPIPE ended.
_PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; each error is one line on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # YAML and JSON are, whatever the terminal's language is
    options = make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        sys.stdout.flush()
        return status
    except SlipwayError as error:
        for line in error.lines:
            print(line, file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read has enough; Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        print("slipway: interrupted; what Airflow runs goes on", file=sys.stderr)
        return 130
