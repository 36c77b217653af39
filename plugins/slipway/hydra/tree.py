"""What a template of either language says, once its syntax is gone: text, values, conditions and one loop.

Go's and Jinja's templates differ in what they let pass. Go compares only values of one type and fails while it
renders; Jinja compares anything. So every template is checked against the types that the variables have, when it is
read: what Go could only refuse in production is refused at once, and what is left renders the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from slipway.hydra.faults import HydraError

# Deeper than any template that a person writes; both languages' own compilers recurse.
DEEPEST = 16
MOST_OPERANDS = 32


class Kind(Enum):
    """The type of a value. MIXED is what ``or`` gives of two types: it can be asked whether it is empty, no more."""

    TEXT = "a string"
    NUMBER = "a whole number"
    TRUTH = "true or false"
    LIST = "a list"
    MIXED = "a value of several types"


# https://docs.daocloud.io/: the variables of Hydra's custom runtimes. RAY_PORT is not in their list; the example
# beside it uses it. Types are those that the example's comparisons need; MODEL_ID's is the weakest of them.
VARIABLES: Mapping[str, Kind] = {
    "RUN_TIME": Kind.TEXT,
    "MODEL_NAME": Kind.TEXT,
    "MODEL_ID": Kind.TEXT,
    "MODEL_PATH": Kind.TEXT,
    "CLUSTER": Kind.TEXT,
    "NAMESPACE": Kind.TEXT,
    "IS_DISTRIBUTED": Kind.TRUTH,
    "IS_LEADER": Kind.TRUTH,
    "TP_SIZE": Kind.NUMBER,
    "PP_SIZE": Kind.NUMBER,
    "MODEL_HOST": Kind.TEXT,
    "MODEL_PORT": Kind.NUMBER,
    "RAY_PORT": Kind.NUMBER,
    "CUSTOM_ARGS": Kind.LIST,
}
LIST = "CUSTOM_ARGS"
# Those that the catalog's templates have besides.
OURS: Mapping[str, Kind] = {
    "CONTEXT_LENGTH": Kind.NUMBER,
    "NODES": Kind.NUMBER,
    "MEMORY_UTILIZATION": Kind.TEXT,
    "TOOL_CALL_PARSER": Kind.TEXT,
    "REASONING_PARSER": Kind.TEXT,
}


Sign = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class Constant:
    """A string, a whole number, or true or false, written into the template."""

    value: str | int | bool


@dataclass(frozen=True)
class Variable:
    """One of ``VARIABLES``."""

    name: str


@dataclass(frozen=True)
class Item:
    """The custom argument that the innermost loop is at."""


@dataclass(frozen=True)
class Comparison:
    """``left`` compared with each of ``right``, true when one of them holds; only ``==`` has more than one."""

    operator: Sign
    left: Expression
    right: tuple[Expression, ...]


@dataclass(frozen=True)
class Junction:
    """``and`` and ``or``: in both languages the first operand that decides, as it is, or the last one."""

    operator: Literal["and", "or"]
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Negation:
    """Whether a value is empty, zero or false."""

    operand: Expression


Expression = Constant | Variable | Item | Comparison | Junction | Negation


@dataclass(frozen=True)
class Text:
    """Text that goes out as it is."""

    text: str
    line: int


@dataclass(frozen=True)
class Output:
    """A string or a number that goes out."""

    value: Expression
    line: int


@dataclass(frozen=True)
class Condition:
    """The body of the first branch whose expression is neither empty nor zero nor false, else ``otherwise``."""

    branches: tuple[tuple[Expression, Body], ...]
    otherwise: Body


@dataclass(frozen=True)
class Loop:
    """The body for each custom argument; ``otherwise`` when there is none."""

    body: Body
    otherwise: Body


Body = tuple[Text | Output | Condition | Loop, ...]


def output(value: Expression, *, line: int, about: str) -> Text | Output | Condition:
    """Put a value out: constants become text, and a truth the word that Go prints for it.

    Raises:
        HydraError: a list, or a value that is sometimes of another type, which the two languages write differently.
    """
    if isinstance(value, Constant):
        word = str(value.value)
        return Text(word.lower() if isinstance(value.value, bool) else word, line)
    kind = kind_of(value, about=about)
    if kind is Kind.TRUTH:
        return Condition(((value, (Text("true", line),)),), (Text("false", line),))
    if kind not in (Kind.TEXT, Kind.NUMBER):
        raise HydraError(
            f"{kind.value} cannot be put out as one value",
            about=about,
            remedy=f"Go through {LIST} with range, or choose the value with if",
        )
    return Output(value, line)


def junction(operator: Literal["and", "or"], operands: Sequence[Expression], *, about: str) -> Expression:
    """Join operands; those that are joined by the same word already become one with it, which means the same.

    Raises:
        HydraError: more than a template can sensibly have; both languages' compilers recurse over them.
    """
    flat: list[Expression] = []
    for operand in operands:
        same = isinstance(operand, Junction) and operand.operator == operator
        flat += operand.operands if isinstance(operand, Junction) and same else [operand]
    if len(flat) > MOST_OPERANDS:
        raise HydraError(
            f"more than {MOST_OPERANDS} operands of {operator!r}", about=about, remedy="Make it shorter"
        )
    return Junction(operator, tuple(flat)) if len(flat) > 1 else flat[0]


def joined(nodes: Iterable[Text | Output | Condition | Loop]) -> Body:
    """A body without empty texts and with neighbouring ones as one, so that equal templates are equal trees."""
    body: list[Text | Output | Condition | Loop] = []
    for node in nodes:
        last = body[-1] if body else None
        if isinstance(node, Text) and isinstance(last, Text):
            body[-1] = Text(last.text + node.text, last.line)
        elif not isinstance(node, Text) or node.text:
            body.append(node)
    return tuple(body)


def kind_of(value: Expression, *, about: str) -> Kind:
    """The type of an expression.

    Raises:
        HydraError: it compares what Go does not compare.
    """
    match value:
        case Constant(bool()) | Negation():
            return Kind.TRUTH
        case Constant(int()):
            return Kind.NUMBER
        case Constant() | Item():
            return Kind.TEXT
        case Variable(name):
            return VARIABLES[name]
        case Comparison():
            return _kind_of_comparison(value, about=about)
        case Junction(_, operands):
            kinds = {kind_of(operand, about=about) for operand in operands}
            return kinds.pop() if len(kinds) == 1 else Kind.MIXED


def _kind_of_comparison(value: Comparison, *, about: str) -> Kind:
    left = kind_of(value.left, about=about)
    for right in (kind_of(operand, about=about) for operand in value.right):
        if left is not right:
            raise HydraError(
                "a comparison of different types", about=about, why=f"{left.value} with {right.value}"
            )
    if left in (Kind.LIST, Kind.MIXED):
        raise HydraError(
            f"{left.value} cannot be compared", about=about, remedy=f"Write if .{LIST} for 'any'"
        )
    if left is Kind.TRUTH and value.operator not in ("==", "!="):
        raise HydraError("true and false have no order", about=about, remedy="Compare them with eq or ne")
    return Kind.TRUTH


def put_out(body: Body) -> set[str]:
    """The variables whose text goes out as it is, and could be anything."""
    found: set[str] = set()
    for node in body:
        match node:
            case Output(value):
                found |= {name for name in _names_in(value) if VARIABLES[name] is not Kind.NUMBER}
                found |= {LIST} if _has_item(value) else set()
            case Condition(branches, otherwise):
                found = found.union(put_out(otherwise), *(put_out(inner) for _, inner in branches))
            case Loop(inner, otherwise):
                found |= put_out(inner) | put_out(otherwise)
    return found


def _has_item(value: Expression) -> bool:
    return isinstance(value, Item) or (isinstance(value, Junction) and any(map(_has_item, value.operands)))


def names(body: Body) -> set[str]:
    """The variables that a template uses."""
    found: set[str] = set()
    for node in body:
        match node:
            case Output(value):
                found |= set(_names_in(value))
            case Condition(branches, otherwise):
                found |= names(otherwise)
                for condition, inner in branches:
                    found |= set(_names_in(condition)) | names(inner)
            case Loop(inner, otherwise):
                found |= {LIST} | names(inner) | names(otherwise)
    return found


def _names_in(value: Expression) -> Iterator[str]:
    match value:
        case Variable(name):
            yield name
        case Comparison(_, left, right):
            for operand in (left, *right):
                yield from _names_in(operand)
        case Junction(_, operands):
            for operand in operands:
                yield from _names_in(operand)
        case Negation(operand):
            yield from _names_in(operand)
