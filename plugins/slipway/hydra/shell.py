"""Where a shell reads what a template says, and whether quoting protects the values there.

Slipway quotes each value that goes into a shell string. A value that stands inside quotes already would close them
with its own: ``'{{ .X }}'`` with ``a; b`` becomes ``''a; b''``, and ``b`` runs. Backquotes, here-documents and
comments read what is inside them in ways of their own. So a value may stand outside all of them only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from slipway.hydra.faults import HydraError, Where
from slipway.hydra.tree import Body, Condition, Loop, Output, Text

# Where the text is, and where each character leads from there; "" stands for every other one. "space" is where a word
# begins (only there does # begin a comment), "less" and "dollar" are behind < and $.
_WORD = {
    **dict.fromkeys(" \t\n;&|()>", "space"),
    **{
        "'": "single",
        '"': "double",
        "\\": "escape",
        "`": "backquote",
        "<": "less",
        "$": "dollar",
        "": "word",
    },
}
_NEXT: dict[str, dict[str, str]] = {
    "word": _WORD,
    "space": {**_WORD, "#": "comment"},
    "less": {**_WORD, "<": "less twice"},
    "less twice": {"<": "space", "": "here"},
    "here": {"": "here"},
    "dollar": {**_WORD, "'": "dollar quote"},
    "dollar quote": {"'": "word", "\\": "dollar escape", "": "dollar quote"},
    "dollar escape": {"": "dollar quote"},
    "single": {"'": "word", "": "single"},
    "double": {'"': "word", "\\": "double escape", "": "double"},
    "double escape": {"": "double"},
    "backquote": {"`": "word", "": "backquote"},
    "escape": {"": "word"},
    "comment": {"\n": "space", "": "comment"},
}
_UNQUOTED = frozenset({"word", "space", "less"})
_PLACES = {
    "less twice": "behind <<",
    "here": "behind a here-document's <<",
    "dollar": "behind a $",
    "dollar quote": "inside $'…'",
    "dollar escape": "inside $'…'",
    "single": "inside single quotes",
    "double": "inside double quotes",
    "double escape": "inside double quotes",
    "backquote": "inside backquotes",
    "escape": "behind a backslash",
    "comment": "inside a comment",
}
_SHELL = re.compile(r"(.*/)?(ba|da|a|z|k)?sh")
_SHELL_AND_C = re.compile(rf"(?P<shell>{_SHELL.pattern})\s+-c\s*")
_READS_STRING = re.compile(r"-[A-Za-z]*c")


def split_command(command: Sequence[str]) -> list[str]:
    """Take ``/bin/bash -c`` for the two words that it is meant to be: no program has such a name."""
    found = _SHELL_AND_C.fullmatch(command[0]) if len(command) == 1 else None
    return [found["shell"], "-c"] if found else list(command)


def names_shell(words: Sequence[str]) -> bool:
    """Whether one of the words is a shell, as in ``[/usr/bin/env, bash, -c]``."""
    return any(_SHELL.fullmatch(word) for word in words)


def hides_shell_string(words: Sequence[str]) -> bool:
    """Whether a shell among these words reads one of them as a program, as in ``bash -lc '…'``."""
    shells = [number for number, word in enumerate(words) if _SHELL.fullmatch(word.strip())]
    return any(_READS_STRING.fullmatch(word) for first in shells[:1] for word in words[first + 1 :]) or any(
        _SHELL_AND_C.match(word) for word in words
    )


def check_quotes(body: Body, *, where: Where) -> None:
    """Refuse a shell string that puts a value where quoting it does not protect.

    Raises:
        HydraError: it does; the message names the line.
    """
    _after(body, frozenset({"space"}), where)


def _after(body: Body, states: frozenset[str], where: Where) -> frozenset[str]:
    """In which of the shell lexer's states the text can be after a body."""
    for node in body:
        match node:
            case Text(text):
                states = frozenset(_after_text(text, state) for state in states)
            case Output(_, line):
                if inside := states - _UNQUOTED:
                    raise HydraError(
                        f"a value {_PLACES[min(inside)]} in a shell string",
                        about=where(line),
                        why="Slipway quotes values itself, which protects only outside of that",
                        remedy="Put the value outside: it needs no quotes",
                    )
                states = frozenset({"word"})
            case Condition(branches, otherwise):
                after = [_after(branch, states, where) for _, branch in branches]
                states = _after(otherwise, states, where).union(*after)
            case Loop(inner, otherwise):
                without = _after(otherwise, states, where)
                while (more := states | _after(inner, states, where)) != states:
                    states = more
                states |= without
    return states


def _after_text(text: str, state: str) -> str:
    for character in text:
        ways = _NEXT[state]
        state = ways.get(character, ways[""])
    return state
