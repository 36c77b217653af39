"""Filling in a runtime's templates: Jinja with little of it, and values that no shell can mistake for its own text.

A runtime's ``command`` and ``args`` are written by whoever keeps the catalog; the values come from endpoints, from
models and from a run's overrides. What is guarded against here is a value that is more than a value: one that a shell,
Kubernetes' own ``$(NAME)`` or a template reads a second time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

# All of Jinja that a template may use: what decides and puts out, nothing that keeps, calls or imports. With a
# filter or macro block, output that was quoted already could be changed afterwards.
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Const,
    nodes.Name,
    nodes.Getitem,
    nodes.If,
    nodes.CondExpr,
    nodes.For,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Test,
    nodes.Filter,
    nodes.Concat,
    nodes.Add,
    nodes.Sub,
    nodes.Neg,
    nodes.List,
    nodes.Tuple,
)
_FILTERS = frozenset(
    {"default", "first", "int", "join", "last", "length", "lower", "replace", "string", "upper"}
)
_BORDER = "\x00"  # stands before and after each value; no argument can hold it
_WORD_ENDS = frozenset(" \t\n;&|()<>")


class FillingError(Exception):
    """A template that cannot be filled in, and why in one sentence."""


def fill_text(template: str, variables: Mapping[str, Any]) -> str:
    """Fill in one argument that a program gets as it is.

    Raises:
        FillingError: it uses what is not there, or more of Jinja than it may.
    """
    if "{{" not in template and "{%" not in template and "{#" not in template:
        return template
    return _rendered(template, variables, quoted=False).replace(_BORDER, "")


def fill_shell(template: str, variables: Mapping[str, Any]) -> str:
    """Fill in the string that a shell reads: each value becomes one quoted word, each item of a list one.

    Raises:
        FillingError: as ``fill_text``, and where quoting would not protect: inside quotes, comments, here-documents
            and the like, where the shell reads a value in another way than a quoted word.
    """
    pieces = _rendered(template, variables, quoted=True).split(_BORDER)
    reader = _ShellReader()
    for number, piece in enumerate(pieces):
        if number % 2:
            reader.value(after=pieces[number - 1])
        else:
            reader.read(piece)
    return "".join(pieces)


def as_it_is(value: str) -> str:
    """Keep Kubernetes from reading ``$(NAME)`` in a value: it would put in the variable, an API key for example."""
    return value.replace("$", "$$")


def _rendered(template: str, variables: Mapping[str, Any], *, quoted: bool) -> str:
    try:
        return _compiled(template, quoted).render(variables)
    except jinja2.TemplateError as error:
        raise FillingError(str(error.message)) from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise FillingError(str(error)) from error


@lru_cache(maxsize=1024)
def _compiled(template: str, quoted: bool) -> jinja2.Template:
    environment = _ENVIRONMENTS[quoted]
    tree = environment.parse(template)
    for node in _all_nodes(tree):
        if not isinstance(node, _ALLOWED):
            kind = type(node).__name__
            raise FillingError(
                f"line {node.lineno}: {kind} is more of Jinja than a runtime's template may use"
            )
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise FillingError(
                f"line {node.lineno}: no filter {node.name}; there are {', '.join(sorted(_FILTERS))}"
            )
    return environment.from_string(tree)


def _all_nodes(node: nodes.Node) -> Iterable[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _all_nodes(child)


def _environment(*, quoted: bool) -> jinja2.Environment:
    def finalize(value: Any) -> str:
        if quoted and isinstance(value, list | tuple):
            return " ".join(_bordered(shlex.quote(_word(one))) for one in value)
        word = _word(value)
        return _bordered(shlex.quote(word) if quoted else word)

    def join(values: Any, separator: str = "") -> Any:
        if quoted and not separator.strip():
            return list(values)
        return separator.join(_word(one) for one in values)

    made = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, finalize=finalize
    )
    made.globals.clear()
    made.filters["join"] = join
    return made


def _bordered(text: str) -> str:
    return f"{_BORDER}{as_it_is(text)}{_BORDER}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, jinja2.Undefined | str | int | float):
        text = str(value)  # of an undefined name: raises, and says which
        if _BORDER in text:
            raise ValueError("a value holds a null byte")
        return text
    if value is None:
        raise ValueError("a variable that is put out is not set here: put it into {% if … %}")
    raise ValueError("a list is put out as one argument: the custom arguments are appended by themselves")


_ENVIRONMENTS = {quoted: _environment(quoted=quoted) for quoted in (False, True)}


_PLACES = {"'": "quotes", "$'": "quotes", '"': "quotes", "`": "backticks", "${}": "braces"}


class _ShellReader:
    """Follows a shell's quoting through its text, as far as is needed to know where a value would stand."""

    def __init__(self) -> None:
        self.inside = ""
        self.unclear = ""
        self.escaped = False
        self.before = "\n"

    def value(self, *, after: str) -> None:
        """Refuse a value where it stands now, unless it stands unquoted."""
        where = self.unclear or _PLACES.get(self.inside, self.inside)
        if self.escaped or (not where and self.before == "$"):
            where = f"the reach of {'a backslash' if self.escaped else '$'}"
        if not where and re.search(r"(^|\s)-[a-z]*c\s+$", after):
            where = "a shell's -c, which reads it as a program,"
        if where:
            raise FillingError(f"a value stands in {where} where quoting does not protect: move it out")
        self.before = "x"

    def read(self, text: str) -> None:
        """Read text of the template's own."""
        if re.search(r"(^|[\s;&|(])eval\s", text):
            self.unclear = self.unclear or "a string with eval"
        for place, character in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.inside:
                self._within(character, text[place + 1 : place + 2])
            else:
                self._without(character, text[place + 1 : place + 3])
            self.before = character

    def _within(self, character: str, following: str) -> None:
        if character == "\\" and self.inside in ('"', "$'"):
            self.escaped = True
        elif self.inside == '"' and (character == "`" or (character == "$" and following == "(")):
            # What is quoted in there is not what is quoted out here.
            self.unclear = "a string that has a command inside double quotes"
        elif character == {"$'": "'", "a comment": "\n", "${}": "}"}.get(self.inside, self.inside):
            self.inside = ""

    def _without(self, character: str, following: str) -> None:
        if character == "\\":
            self.escaped = True
        elif character == "'":
            self.inside = "$'" if self.before == "$" else "'"
        elif character in '"`':
            self.inside = character
        elif character == "$" and following[:1] == "{":
            self.inside = "${}"
        elif character == "#" and self.before in _WORD_ENDS:
            self.inside = "a comment"
        elif character == "(" and following[:1] == "(":
            self.unclear = "a string that has arithmetic"
        elif character == "<" and following[:1] == "<" and following != "<<" and self.before != "<":
            self.unclear = "a string that has a here-document"
