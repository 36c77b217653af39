"""Templates of the subset, made at random, and values for their variables."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from slipway.hydra.tree import VARIABLES, Kind

# What quoting, trimming and either language's tags could trip over. No surrogates: no file has them.
WORDS = st.text(alphabet="ab-=/.:'\"\\$&;%#{} \t\nä模", max_size=8)
VALUES = {
    Kind.TEXT: WORDS,
    Kind.NUMBER: st.integers(-2, 9),
    Kind.TRUTH: st.booleans(),
    Kind.LIST: st.lists(WORDS, max_size=3),
}
variables: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {name: VALUES[kind] for name, kind in VARIABLES.items()}
)


def go_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\x09")
    return f'"{escaped}"'


def _names(kind: Kind) -> list[str]:
    return [name for name, of in VARIABLES.items() if of is kind]


@st.composite
def expressions(draw: st.DrawFn, kind: Kind, *, loop: bool, depth: int) -> str:
    """Source of an expression of a kind, in parentheses where it is a call."""
    root = "$." if loop else "."
    plain = st.sampled_from(_names(kind)).map(lambda name: root + name)
    constants = {
        Kind.TEXT: WORDS.map(go_string) | st.sampled_from(["`a{{b}}`", '"\\u6a21\\141"', '""']),
        Kind.NUMBER: st.sampled_from(["0", "1", "-1", "+2", "010", "0x_A", "1_0", "0b11"]),
        Kind.TRUTH: st.sampled_from(["true", "false"]),
    }
    choices = [plain] + ([constants[kind]] if kind in constants else [])
    if kind is Kind.TEXT and loop:
        choices.append(st.just("."))
    if depth and kind is not Kind.LIST:
        below = expressions(kind, loop=loop, depth=depth - 1)
        choices.append(
            st.tuples(st.sampled_from(["and", "or"]), st.lists(below, min_size=1, max_size=3)).map(
                lambda made: f"({made[0]} {' '.join(made[1])})"
            )
        )
    if depth and kind is Kind.TRUTH:
        choices.append(comparisons(loop=loop, depth=depth))
        choices.append(conditions(loop=loop, depth=depth - 1).map(lambda made: f"(not {made})"))
        choices.append(conditions(loop=loop, depth=depth - 1).map(lambda made: f"({made} | not)"))
    return draw(st.one_of(choices))


@st.composite
def comparisons(draw: st.DrawFn, *, loop: bool, depth: int) -> str:
    kind = draw(st.sampled_from([Kind.TEXT, Kind.NUMBER, Kind.TRUTH]))
    names = ["eq", "ne"] if kind is Kind.TRUTH else ["eq", "ne", "lt", "le", "gt", "ge"]
    name = draw(st.sampled_from(names))
    most = 4 if name == "eq" else 2
    operand = expressions(kind, loop=loop, depth=depth - 1)
    operands = draw(st.lists(operand, min_size=2, max_size=most))
    if draw(st.booleans()):
        return f"({operands[-1]} | {name} {' '.join(operands[:-1])})"
    return f"({name} {' '.join(operands)})"


@st.composite
def conditions(draw: st.DrawFn, *, loop: bool, depth: int) -> str:
    """What an if can have: any kind, and junctions of several kinds."""
    single = st.sampled_from(list(VALUES)).flatmap(
        lambda kind: expressions(kind, loop=loop, depth=max(0, depth))
    )
    if depth > 0 and draw(st.booleans()):
        operands = draw(st.lists(conditions(loop=loop, depth=depth - 1), min_size=1, max_size=3))
        return f"({draw(st.sampled_from(['and', 'or']))} {' '.join(operands)})"
    return draw(single)


def text(source: str) -> str:
    """Text without the beginning of an action."""
    while "{{" in source:
        source = source.replace("{{", "{")
    return source


@st.composite
def actions(draw: st.DrawFn, inside: str) -> str:
    left, right = draw(st.sampled_from(["{{", "{{ ", "{{- "])), draw(st.sampled_from(["}}", " }}", " -}}"]))
    return f"{left}{inside}{right}"


@st.composite
def templates(draw: st.DrawFn, *, loop: bool = False, depth: int = 3) -> str:
    """Source of a body."""
    parts: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        kinds = ["text", "output", "comment"] + (["if", "range"] if depth else [])
        match draw(st.sampled_from(kinds)):
            case "text":
                parts.append(text(draw(WORDS)))
            case "comment":
                left, right = draw(st.sampled_from(["{{", "{{- "])), draw(st.sampled_from(["}}", " -}}"]))
                parts.append(f"{left}/* a ' {{{{ */{right}")
            case "output":
                kind = draw(st.sampled_from([Kind.TEXT, Kind.NUMBER, Kind.TRUTH]))
                parts.append(draw(actions(draw(expressions(kind, loop=loop, depth=2)))))
            case "if":
                below = templates(loop=loop, depth=depth - 1)
                condition = conditions(loop=loop, depth=2)
                parts += [draw(actions(f"if {draw(condition)}")), draw(below)]
                for _ in range(draw(st.integers(0, 2))):
                    parts += [draw(actions(f"else if {draw(condition)}")), draw(below)]
                if draw(st.booleans()):
                    parts += [draw(actions("else")), draw(below)]
                parts.append(draw(actions("end")))
            case "range":
                over = "$.CUSTOM_ARGS" if loop else ".CUSTOM_ARGS"
                parts += [draw(actions(f"range {over}")), draw(templates(loop=True, depth=depth - 1))]
                if draw(st.booleans()):
                    parts += [draw(actions("else")), draw(templates(loop=loop, depth=depth - 1))]
                parts.append(draw(actions("end")))
    return _apart(parts)


def _apart(parts: list[str]) -> str:
    """Joined so that no text makes an action begin earlier than it should."""
    made = ""
    for part in parts:
        made += " " + part if made.endswith("{") and part.startswith("{") else part
    return made
