"""How a pod receives its order and gives its result: an environment variable in, the termination message out.

A step that runs in a pod is one function from a record to a record. The order comes as JSON in
``SLIPWAY_ORDER``; the result goes into the container's termination message, which Kubernetes keeps in the
pod's status, so that whoever waits for the pod reads it from the API server without a volume, a sidecar or a
look at the log. Kubernetes cuts a termination message at 4096 bytes (kubelet,
``MaxContainerTerminationMessageLength``); a result that is longer is refused here, because half a JSON
document helps nobody.

Secrets never travel this way: orders and results are shown in the pod's spec and status. They come by
environment variables from a Secret.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from slipway import errors
from slipway.errors import SlipwayError, UsageError, bounded

ORDER = "SLIPWAY_ORDER"
CODE = "SLIPWAY_CODE"
RESULT = "SLIPWAY_RESULT"
DEBUG = "SLIPWAY_DEBUG"
RESULT_FILE = "/dev/termination-log"

LONGEST_RESULT = 4096
"""What Kubernetes keeps of one container's termination message, in bytes."""

EXIT_TERMINATED = 143
EXIT_INTERRUPTED = 130

OrderT = TypeVar("OrderT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread so that the work's ``finally`` blocks run; not an ``Exception``."""


def run_order(order_type: type[OrderT], work: Callable[[OrderT], BaseModel]) -> NoReturn:
    """Carry out the order in the environment, write the result, and end the process.

    The process ends with ``os._exit`` after everything is flushed: a worker thread that hangs in a read must
    not keep a pod that was told to stop until Kubernetes kills it, which would lose the reason.

    Args:
        order_type: the record that ``SLIPWAY_ORDER`` is; it should forbid unknown keys.
        work: what to do. It may raise any ``SlipwayError``; other exceptions are reported by type and
            message.
    """
    status = carry_out(order_type, work)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def carry_out(order_type: type[OrderT], work: Callable[[OrderT], BaseModel]) -> int:
    """Do what ``run_order`` does, and return the exit status instead of ending the process."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        _check_code()
        result = work(_read_order(order_type))
        _write(_result_message(result))
    except _Terminated:
        terminated = SlipwayError(
            "terminated", why="the pod was told to stop (SIGTERM)", remedy="start it again"
        )
        return _report(terminated, exit_status=EXIT_TERMINATED)
    except KeyboardInterrupt:
        return _report(SlipwayError("interrupted", remedy="start it again"), exit_status=EXIT_INTERRUPTED)
    except SlipwayError as error:
        _debug_trace()
        return _report(error, exit_status=error.exit_status)
    except Exception as error:
        _debug_trace()
        unexpected = SlipwayError(
            "an unexpected fault in Slipway",
            about=type(error).__name__,
            why=bounded(str(error)),
            remedy=f"set {DEBUG}=1 for the whole trace, and report it",
        )
        return _report(unexpected, exit_status=1)
    return 0


def parse_result(text: str, result_type: type[ResultT]) -> ResultT:
    """Read a termination message: the result, or the pod's typed error raised again here.

    Args:
        text: the termination message. Under ``FallbackToLogsOnError`` it is the log's tail when the container
            died before it could write (killed for memory, an import that failed): that is quoted.
        result_type: the record that the work returns.

    Raises:
        SlipwayError: the error that the pod reported, of the same class; or one that quotes the last log
            lines.
    """
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not ({"result", "error"} & message.keys()):
        last = " | ".join(line.strip() for line in text.strip().splitlines()[-5:] if line.strip())
        raise SlipwayError(
            "the pod ended without a result",
            why=f"its last lines: {last[-300:]}" if last else "it wrote nothing",
            remedy="look at the pod's log and events",
        )
    if "error" in message:
        raise _typed_error(message["error"])
    try:
        return result_type.model_validate(message["result"])
    except ValidationError as error:
        raise SlipwayError(
            "the pod's result has another form than expected",
            about=result_type.__name__,
            why=describe_invalid(error),
            remedy="the pod's image and this code differ: build the tools image again",
        ) from error


def describe_invalid(error: ValidationError) -> str:
    """Say what is wrong with a record in one line, without its values, which may be long or private."""
    problems = (
        f"{'.'.join(str(part) for part in detail['loc']) or 'the record'}: {detail['msg']}"
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    )
    return bounded("; ".join(problems))


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _check_code() -> None:
    """Refuse to work with other code than the release was resolved with.

    A node may hold an image of the same tag with other content; a step that then runs differently from what
    was planned is worse than one that does not run.
    """
    expected = os.environ.get(CODE)
    if not expected:
        return
    from slipway.catalog.images import code_digest

    found = code_digest(Path(__file__).resolve().parent)
    if found != expected:
        raise SlipwayError(
            "this pod has other code than the release was planned with",
            about=f"planned {expected[:12]}, in the image {found[:12]}",
            remedy="build and load the tools image again, then deploy again",
        )


def _read_order(order_type: type[OrderT]) -> OrderT:
    text = os.environ.get(ORDER)
    if not text:
        raise UsageError(f"no order was given: {ORDER} is not set")
    try:
        return order_type.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(
            "the order cannot be read",
            about=f"{ORDER}, a {order_type.__name__}",
            why=describe_invalid(error),
            remedy="the code that starts the pod and the code in it differ",
        ) from error


def _result_message(result: BaseModel) -> bytes:
    message = json.dumps(
        {"result": result.model_dump(mode="json")}, ensure_ascii=False, separators=(",", ":")
    )
    data = message.encode()
    if len(data) > LONGEST_RESULT:
        raise SlipwayError(
            "the result is too long for the termination message",
            about=type(result).__name__,
            why=f"{len(data)} bytes, and Kubernetes keeps {LONGEST_RESULT}",
            remedy="put the long part into the log or into a file, and its name into the result",
        )
    return data


def _report(error: SlipwayError, *, exit_status: int) -> int:
    print(f"slipway: {error}", file=sys.stderr)
    for limit in (400, 200, 100):
        record = {
            "what": bounded(error.what, limit=limit),
            "about": bounded(error.about, limit=limit),
            "why": bounded(error.why, limit=limit),
            "remedy": bounded(error.remedy, limit=limit),
            "kind": type(error).__name__,
            "exit_status": exit_status,
        }
        data = json.dumps({"error": record}, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )
        if len(data) <= LONGEST_RESULT:
            break
    try:
        _write(data)
    except SlipwayError as problem:
        print(f"slipway: {problem}", file=sys.stderr)
    return exit_status


def _write(data: bytes) -> None:
    path = os.environ.get(RESULT, RESULT_FILE)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise SlipwayError(
            "the result could not be written",
            about=path,
            why=error.strerror or str(error),
            remedy=f"outside a pod, name a file in {RESULT}",
        ) from error


def _typed_error(record: Any) -> SlipwayError:
    fields = record if isinstance(record, dict) else {}
    named = getattr(errors, str(fields.get("kind")), None)
    error_type = named if isinstance(named, type) and issubclass(named, SlipwayError) else SlipwayError
    return error_type(
        str(fields.get("what") or "the pod failed"),
        about=str(fields.get("about") or ""),
        why=str(fields.get("why") or ""),
        remedy=str(fields.get("remedy") or ""),
    )


def _debug_trace() -> None:
    if os.environ.get(DEBUG) == "1":
        traceback.print_exc()
