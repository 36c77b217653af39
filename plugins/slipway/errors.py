"""Slipway's errors: one small tree, each a single line that a person woken at night can act on.

An error says what went wrong, with which object, why, and what to do. It is raised ``from`` its cause, so that
the trace is there for whoever wants it while the message alone goes into logs, findings, releases and pages.
Messages never carry the value of a secret: text that comes from elsewhere is bounded by ``bounded``.
"""

from __future__ import annotations

LONGEST_QUOTE = 400


def bounded(text: str, *, limit: int = LONGEST_QUOTE) -> str:
    """Bring text from elsewhere (a server, a log) to one line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class SlipwayError(Exception):
    """Something that Slipway could not do.

    Attributes:
        what: what failed, in a few words ("the model could not be downloaded").
        about: the object that it is about ("s3://models/qwen3-tiny", "StatefulSet models/qwen3-tiny"), or "".
        why: the reason as the failing part gave it, or "".
        remedy: what the reader does next, or "".
        exit_status: the terminal's exit status: 1 for a fault, 2 for a user's mistake.
    """

    exit_status = 1

    def __init__(self, what: str, *, about: str = "", why: str = "", remedy: str = "") -> None:
        self.what, self.about, self.why, self.remedy = what, about, why, remedy
        subject = f"{what} ({about})" if about else what
        sentences = [f"{subject}: {why}" if why else subject, remedy]
        super().__init__(". ".join(bounded(part).rstrip(".") for part in sentences if part))

    @property
    def lines(self) -> list[str]:
        """What a terminal shows: one line, unless the error is a list of places in files."""
        return [f"slipway: {self}"]


class UsageError(SlipwayError):
    """A mistake in what a person or another system asked for; nothing was changed."""

    exit_status = 2


class CatalogError(UsageError):
    """A record of the catalog that cannot be used; ``about`` names file and line."""


class WeightsError(SlipwayError):
    """Weights that could not be brought into their volume, or that are not what they should be."""


class ProbeError(SlipwayError):
    """An endpoint that does not serve as it should."""


class BenchmarkError(SlipwayError):
    """A benchmark that did not run, or whose result is not valid."""


class ClusterError(SlipwayError):
    """A cluster that could not be reached or that refused something."""


class WorkloadError(ClusterError):
    """A workload that will never become available, with the reason that the cluster knows."""


class LockError(SlipwayError):
    """An endpoint's lock that is held by another run, or that this run has lost."""


class ReleaseError(SlipwayError):
    """A release that cannot be recorded, found or used as it was asked."""
