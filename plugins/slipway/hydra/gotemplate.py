"""The part of Go's templates that Hydra's documents use, read into a tree.

Read: text with trimming, ``{{ .VARIABLE }}``, ``$.VARIABLE``, if/else if/else, range over CUSTOM_ARGS (with else),
eq ne lt le gt ge and or not, parentheses, pipelines, strings, whole numbers, true, false, and comments. Everything
else that text/template knows is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Literal

from slipway.errors import bounded
from slipway.hydra.faults import HydraError, Where
from slipway.hydra.goconstants import number, unquoted
from slipway.hydra.gotokens import Token, tokens
from slipway.hydra.tree import (
    DEEPEST,
    LIST,
    MOST_OPERANDS,
    VARIABLES,
    Body,
    Comparison,
    Condition,
    Constant,
    Expression,
    Item,
    Loop,
    Negation,
    Output,
    Sign,
    Text,
    Variable,
    joined,
    junction,
    kind_of,
    output,
)

# As long as an argument of the catalog can be.
LONGEST = 8192
KEYWORDS = ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with")
COMPARISONS: Mapping[str, Sign] = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
SUBSET = (
    "Slipway reads .VARIABLE, if, else, end, range over .CUSTOM_ARGS, eq, ne, lt, le, gt, ge, and, or, not and"
    " constants; write the template with these"
)


def parse_go(source: str, *, where: Where) -> Body:
    """Read a Go template.

    Args:
        source: its text.
        where: what to call a line of it in an error.

    Raises:
        HydraError: not a Go template, or one with more than the subset.
    """
    if len(source) > LONGEST:
        raise HydraError("a template is too long", about=where(1), why=f"more than {LONGEST} characters")
    if found := re.search(r"[\r\x00]", source):
        line = 1 + source.count("\n", 0, found.start())
        raise HydraError("a carriage return or a NUL in a template", about=where(line), remedy="Take it out")
    return _Parser(tokens(source, where=where), where).template()


class _Parser:
    """Recursive descent over tokens, one method for each rule of text/template/parse/parse.go."""

    def __init__(self, source: Generator[Token, None, None], where: Where) -> None:
        self._source, self._where = source, where
        self._token = self._next()
        self._depth = 0
        self._in_loop = False

    def template(self) -> Body:
        body = self._body()
        if self._token.kind != "nothing":
            raise self._refused(self._token, "it belongs to no if or range")
        return body

    def _next(self) -> Token:
        line = self._token.line if hasattr(self, "_token") else 1
        return next(self._source, Token("nothing", "", line))

    def _take(self) -> Token:
        taken, self._token = self._token, self._next()
        return taken

    def _skip_space(self) -> None:
        while self._token.kind == "space":
            self._take()

    def _about(self, token: Token) -> str:
        return self._where(token.line)

    def _refused(self, token: Token, why: str, *, remedy: str = SUBSET) -> HydraError:
        what = (
            f"{bounded(token.text, limit=60)!r} in a template" if token.text else "a template ends too early"
        )
        return HydraError(what, about=self._about(token), why=why, remedy=remedy)

    def _deeper(self, change: int, token: Token) -> None:
        self._depth += change
        if self._depth > DEEPEST:
            raise self._refused(token, f"more than {DEEPEST} levels deep", remedy="Make it flatter")

    def _body(self) -> Body:
        """Nodes up to the ``end`` or ``else`` that is not theirs, which stays the next token."""
        nodes: list[Text | Output | Condition | Loop] = []
        while self._token.kind in ("text", "left"):
            if self._token.kind == "text":
                token = self._take()
                nodes.append(Text(token.text, token.line))
                continue
            self._take()
            self._skip_space()
            if self._token.kind == "word" and self._token.text in ("end", "else"):
                break
            nodes.append(self._action())
        return joined(nodes)

    def _action(self) -> Text | Output | Condition | Loop:
        token = self._token
        if token.kind == "word" and token.text in ("if", "range"):
            self._take()
            self._deeper(1, token)
            node = self._condition() if token.text == "if" else self._loop()
            self._deeper(-1, token)
            return node
        value = self._pipeline("right")
        return output(value, line=token.line, about=self._about(token))

    def _condition(self) -> Condition:
        branches: list[tuple[Expression, Body]] = []
        while True:
            token = self._token
            value = self._pipeline("right")
            kind_of(value, about=self._about(token))
            branches.append((value, self._body()))
            if len(branches) > MOST_OPERANDS:
                raise self._refused(token, f"more than {MOST_OPERANDS} branches", remedy="Make it shorter")
            word = self._word_after()
            if word != "else if":
                return Condition(tuple(branches), self._otherwise(word))

    def _loop(self) -> Loop:
        token = self._token
        self._skip_space()
        over = self._pipeline("right") if self._token.kind != "variable" or self._token.text == "$" else None
        if over != Variable(LIST):
            raise self._refused(token, f"range goes over .{LIST} only, without variables")
        was, self._in_loop = self._in_loop, True
        body = self._body()
        self._in_loop = was
        word = self._word_after()
        if word == "else if":
            raise self._refused(token, "range has an else, but no else if")
        return Loop(body, self._otherwise(word))

    def _word_after(self) -> Literal["end", "else", "else if"]:
        """Take what ends a body, up to where the next one or a condition begins."""
        token = self._take()
        if token.kind == "nothing":
            raise self._refused(token, "an if or a range has no end", remedy="Add {{ end }}")
        self._skip_space()
        if token.text == "else" and self._token.kind == "word" and self._token.text == "if":
            self._take()
            return "else if"
        self._close("right")
        return "end" if token.text == "end" else "else"

    def _otherwise(self, word: str) -> Body:
        """The body of an ``else``, up to and with its ``end``; none when the word was ``end``."""
        if word == "end":
            return ()
        token, body = self._token, self._body()
        if self._word_after() != "end":
            raise self._refused(token, "a second else", remedy="Close each if and range with {{ end }}")
        return body

    def _close(self, kind: str) -> None:
        if self._token.kind != kind:
            raise self._refused(self._token, "it does not belong here")
        self._take()

    def _pipeline(self, closing: str) -> Expression:
        """Commands joined by ``|``: each hands its value to the next one as its last argument."""
        value: Expression | None = None
        while True:
            self._skip_space()
            value = self._command(piped=value)
            self._skip_space()
            if self._token.kind == "pipe":
                self._take()
                continue
            self._close(closing)
            return value

    def _command(self, *, piped: Expression | None) -> Expression:
        first = self._token
        function = self._function() if first.kind == "word" else None
        if function is None:
            if piped is not None:
                raise self._refused(first, "a pipe leads to a function")
            value = self._operand()
            self._skip_space()
            if self._token.kind not in ("right", "close", "pipe"):
                raise self._refused(self._token, f"{bounded(first.text, limit=60)!r} takes no argument")
            return value
        operands: list[Expression] = []
        while self._token.kind == "space":
            self._skip_space()
            if self._token.kind not in ("right", "close", "pipe"):
                operands.append(self._operand())
        if self._token.kind not in ("right", "close", "pipe"):
            raise self._refused(self._token, "it does not belong here")
        if piped is not None:
            operands.append(piped)
        if len(operands) > MOST_OPERANDS:
            raise self._refused(first, f"more than {MOST_OPERANDS} arguments", remedy="Make it shorter")
        value = function(operands)
        kind_of(value, about=self._about(first))
        return value

    def _function(self) -> Callable[[list[Expression]], Expression] | None:
        """What the word that comes next does with its arguments; None for true and false."""
        token = self._token
        if token.text in ("true", "false"):
            return None
        if token.text in KEYWORDS:
            raise self._refused(token, "it has no counterpart in the catalog")
        if token.text not in (*COMPARISONS, "and", "or", "not"):
            raise self._refused(token, "not a function that Slipway knows")
        self._take()

        def apply(operands: list[Expression]) -> Expression:
            least, most = (1, 1) if token.text == "not" else (2, 2)
            if token.text in ("and", "or"):
                least, most = 1, MOST_OPERANDS
            if token.text == "eq":
                most = MOST_OPERANDS
            if not least <= len(operands) <= most:
                raise self._refused(token, f"it cannot take {len(operands)} arguments", remedy="Count them")
            if token.text == "not":
                return Negation(operands[0])
            if token.text in ("and", "or"):
                return junction("and" if token.text == "and" else "or", operands, about=self._about(token))
            return Comparison(COMPARISONS[token.text], operands[0], tuple(operands[1:]))

        return apply

    def _operand(self) -> Expression:
        token = self._take()
        match token.kind:
            case "word" if token.text in ("true", "false"):
                return Constant(token.text == "true")
            case "string":
                return Constant(unquoted(token, self._where))
            case "raw":
                return Constant(token.text[1:-1])
            case "number":
                return Constant(number(token, self._where))
            case "open":
                self._deeper(1, token)
                value = self._pipeline("close")
                self._deeper(-1, token)
                return value
            case "field" if not self._in_loop:
                return self._variable(token, token)
            case "field":
                raise self._refused(
                    token,
                    "inside range the dot is the argument",
                    remedy=f"Write ${bounded(token.text, limit=60)}",
                )
            case "variable" if token.text == "$" and self._token.kind == "field":
                return self._variable(token, self._take())
            case "dot" if self._in_loop:
                return Item()
            case _:
                raise self._refused(token, "no value that Slipway knows")

    def _variable(self, token: Token, field: Token) -> Variable:
        if self._token.kind == "field":
            raise self._refused(self._token, f"{bounded(field.text, limit=60)!r} has no fields")
        if field.text[1:] not in VARIABLES:
            known = ", ".join(VARIABLES)
            raise self._refused(token, "no such variable", remedy=f"Variables are: {known}")
        return Variable(field.text[1:])
