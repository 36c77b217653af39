"""`python -m sandbox up|down|status|reset|logs|demo|bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from sandbox import commands, settings
from sandbox.errors import FAILURE, SandboxError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is one line on standard error, never a traceback."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options)
    except SandboxError as error:
        _end(f"sandbox: {error}", error.status)
    except BrokenPipeError:
        _end("", FAILURE)  # whoever read the output has gone; nobody is left to tell
    except KeyboardInterrupt:
        commands.stop_all()
        _end(f"\nsandbox: interrupted; `make {options.command}` goes on from here", INTERRUPTED)
    except Exception as error:
        if os.environ.get("SLIPWAY_DEBUG"):
            raise
        text = " ".join(str(error).split())[:400] or type(error).__name__
        _end(f"sandbox: {text} (SLIPWAY_DEBUG=1 shows where)", getattr(error, "exit_status", FAILURE))


def _end(message: str, status: int) -> NoReturn:
    """Say it and leave at once: threads of other steps would otherwise be waited for."""
    with suppress(OSError):
        sys.stdout.flush()
    if message:
        print(message, file=sys.stderr, flush=True)
    os._exit(status)


def _run(options: argparse.Namespace) -> int:
    config = settings.load(recorded=options.command in {"down", "reset", "status", "logs"})
    if options.command == "up":
        from sandbox.up import up

        up(config)
    elif options.command == "demo":
        from sandbox.demo import demo

        demo(config)
    elif options.command == "bench":
        from sandbox.bench import bench

        bench(config)
    elif options.command in {"down", "reset"}:
        from sandbox.down import down

        down(config, delete_state=options.command == "reset")
    elif options.command == "status":
        from sandbox.status import status

        return status(config)
    elif options.command == "logs":
        from sandbox.status import logs

        logs(config, options.part)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    sub = parser.add_subparsers(dest="command", required=True)
    sub.add_parser("up", help="start everything; build what is missing")
    sub.add_parser("demo", help="up, then deploy an endpoint through Airflow and show what it answers")
    sub.add_parser("bench", help="print Slipway's own figures, one JSON object a line")
    sub.add_parser("down", help="stop everything and leave nothing but the state directory")
    sub.add_parser("reset", help="down, and delete the state directory too; the cache stays")
    sub.add_parser("status", help="what runs, and how to reach it")
    log = sub.add_parser("logs", help="follow the log of a part")
    log.add_argument("part", nargs="?", help="as `status` names it; all of them when left out")
    return parser


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
