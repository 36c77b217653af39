"""What making a step would change: the part of a plan that people approve, and that a run is held to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal["there", "missing", "changes", "blocked"]
MOST_LINES = 120
"""Of one object's difference that are shown and kept; a definition of the Gateway API alone has thousands."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Change(_Record):
    """What would happen to one object, or to one Helm release.

    Attributes:
        about: the object.
        digest: of what would change, so that what is made can be held against what was approved.
        text: a unified diff, cut when it is long; values of Secrets are hidden.
        note: what a reader must know besides, or "".
        new: whether it is not there yet.
    """

    about: str
    digest: str
    text: str
    note: str = ""
    new: bool = False


class Outlook(_Record):
    """How far a step is from what the record says.

    Attributes:
        step: its id.
        state: "there" needs nothing, "blocked" cannot be made as things are.
        reason: why it is blocked, or what is noteworthy though nothing has to be done; "".
        remedy: what lifts the block, with the exact command or rule where there is one.
    """

    step: str
    title: str
    state: State
    changes: tuple[Change, ...] = ()
    reason: str = ""
    remedy: str = ""

    @property
    def approved(self) -> dict[str, str]:
        """What an approval of this outlook allows: each object's digest."""
        return {change.about: change.digest for change in self.changes}


def digest_of(text: str) -> str:
    """Return what stands for a text when two of them are compared."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def change_of(about: str, text: str, *, note: str = "", new: bool = False, digest: str = "") -> Change:
    """Make a change of its whole diff; the digest is over all of it unless another is given."""
    lines = text.splitlines()
    kept = lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        kept.append(f"… {len(lines) - MOST_LINES} more lines")
    return Change(about=about, digest=digest or digest_of(text), text="\n".join(kept), note=note, new=new)


def outlook(step: str, title: str, changes: Iterable[Change], *, reason: str = "") -> Outlook:
    """Make the outlook of a step that can be made: "missing" when all that it lacks is new."""
    listed = tuple(changes)
    state: State = "changes"
    if not listed:
        state = "there"
    elif all(change.new for change in listed):
        state = "missing"
    return Outlook(step=step, title=title, state=state, changes=listed, reason=reason)


def table(outlooks: Sequence[Outlook]) -> str:
    """Return a plan as text: a line for each step, what it would change below it, and a last line that counts."""
    widths = [max((len(text) for text in column), default=0) for column in _columns(outlooks)]
    lines = []
    for one in outlooks:
        about = one.reason or ", ".join(_told(change) for change in one.changes)
        lines.append(f"{one.state.ljust(widths[0])}  {one.step.ljust(widths[1])}  {about or one.title}")
        lines += [f"    {line}" for line in one.remedy.splitlines()]
        lines += [f"    {line}" for change in one.changes for line in _shown(change)]
    lacking = [one for one in outlooks if one.state != "there"]
    blocked = sum(one.state == "blocked" for one in lacking)
    told = (
        f"{len(outlooks)} steps: {len(lacking)} to do" if lacking else f"{len(outlooks)} steps: all is there"
    )
    return "\n".join([*lines, told + (f", {blocked} of them blocked" if blocked else "")])


def markdown(outlooks: Sequence[Outlook], *, limit: int = 60_000) -> str:
    """Return a plan as Markdown, for the page on which a person approves it."""
    lines = ["| step | state | what |", "|---|---|---|"]
    for one in outlooks:
        what = one.reason or ", ".join(_told(change) for change in one.changes) or one.title
        lines.append(f"| `{one.step}` | {one.state} | {what.replace('|', '/')} |")
    for one in outlooks:
        shown = [line for change in one.changes for line in _shown(change)]
        if one.remedy or shown:
            fence = "````"
            lines += ["", f"**{one.step}**", "", f"{fence}diff", *one.remedy.splitlines(), *shown, fence]
    text = "\n".join(lines)
    return (
        text if len(text) <= limit else text[:limit] + "\n````\n\nThe rest is in the log of the task *plan*."
    )


def _columns(outlooks: Sequence[Outlook]) -> tuple[list[str], list[str]]:
    return [one.state for one in outlooks], [one.step for one in outlooks]


def _told(change: Change) -> str:
    return f"{change.about} ({'new' if change.new else 'changes'})"


def _shown(change: Change) -> list[str]:
    note = [f"# {change.about}: {change.note}"] if change.note else []
    return [*note, *change.text.splitlines()]
