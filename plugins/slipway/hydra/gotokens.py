"""Go's template text as tokens, by the rules of Go's own lexer (text/template/parse/lex.go).

Trimming is done here, where Go does it: ``{{-`` and ``-}}`` take spaces, tabs and line ends from the text beside
them, so that nothing behind the lexer knows of it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from slipway.hydra.faults import HydraError, Where

SPACES = " \t\r\n"
_END = re.compile(r"(?P<trim>[ \t\r\n]-)?\}\}")
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
    | (?P<raw>`[^`]*`)
    | (?P<number>[+-]?[0-9][0-9A-Za-z_.]*)
    | (?P<field>\.[^\W\d]\w*)
    | (?P<dot>\.)
    | (?P<variable>\$\w*)
    | (?P<word>[^\W\d]\w*)
    | (?P<pipe>\|)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<other>[!-~])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """A piece of a template: ``text`` outside actions; ``left``, ``right`` and what stands between them inside."""

    kind: str
    text: str
    line: int


def tokens(source: str, *, where: Where) -> Generator[Token, None, None]:
    """Split a template.

    Raises:
        HydraError: a character or a constant that Go's templates do not know, or an action that does not end.
    """
    position, trim = 0, False
    while True:
        begin = source.find("{{", position)
        text = source[position:] if begin < 0 else source[position:begin]
        if trim:
            text = text.lstrip(SPACES)
        line = 1 + source.count("\n", 0, (len(source) if begin < 0 else begin) - len(text))
        after = begin + 2
        if begin >= 0 and source[after : after + 1] == "-" and source[after + 1 : after + 2] in tuple(SPACES):
            text, after = text.rstrip(SPACES), after + 2
        if text:
            yield Token("text", text, line)
        if begin < 0:
            return
        if source.startswith("/*", after):
            position, trim = _comment(source, after, where=where)
        else:
            position, trim = yield from _action(source, begin, after, where=where)


def _comment(source: str, start: int, *, where: Where) -> tuple[int, bool]:
    """Where the text goes on after a comment, and whether that text is trimmed."""
    closed = source.find("*/", start + 2)
    found = _END.match(source, closed + 2) if closed >= 0 else None
    if not found:
        raise HydraError(
            "a comment does not end as Go wants it",
            about=where(_line(source, start)),
            remedy="Write {{/* … */}}, with nothing between the comment and its braces",
        )
    return found.end(), bool(found["trim"])


def _action(source: str, begin: int, start: int, *, where: Where) -> Generator[Token, None, tuple[int, bool]]:
    """The tokens of one action; returns where the text goes on, and whether that text is trimmed."""
    yield Token("left", "{{", _line(source, begin))
    position = start
    while not source.startswith("}}", position):
        found = _TOKEN.match(source, position)
        line = _line(source, position)
        if position == len(source):
            raise HydraError(
                "an action does not end", about=where(_line(source, begin)), remedy="Close it with }}"
            )
        if not found:
            raise HydraError("not a Go template", about=where(line), why=f"{source[position]!r} in an action")
        position = found.end()
        if found.lastgroup == "space" and source.startswith("-}}", position):
            yield Token("right", "}}", line)
            return position + 3, True
        yield Token(str(found.lastgroup), found.group(), line)
    yield Token("right", "}}", _line(source, position))
    return position + 2, False


def _line(source: str, position: int) -> int:
    return 1 + source.count("\n", 0, position)
