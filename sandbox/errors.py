"""The one error that the sandbox raises on purpose.

Everything that a person can do something about is a `SandboxError` whose message is one line that says what to do.
`__main__` prints it and turns `status` into the exit status, so that nobody meets a traceback for a busy port.
"""

from __future__ import annotations

USER_MISTAKE = 2
FAILURE = 1


class SandboxError(Exception):
    """One line for a person; `status` is the exit status: 2 for a mistake of theirs, 1 for anything else."""

    def __init__(self, message: str, *, status: int = FAILURE) -> None:
        super().__init__(message)
        self.status = status
