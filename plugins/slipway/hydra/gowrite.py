"""A template's tree as a Go template."""

from __future__ import annotations

import json
import re

from slipway.hydra.tree import (
    LIST,
    Body,
    Comparison,
    Condition,
    Constant,
    Expression,
    Item,
    Junction,
    Loop,
    Negation,
    Output,
    Sign,
    Text,
    Variable,
)

NAMES: dict[Sign, str] = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def write_go(body: Body) -> str:
    """Write a template so that Go renders the same text; without trimming, so that no white space is lost."""
    return "".join(_written(node, in_loop=False) for node in body)


def _written(node: Text | Output | Condition | Loop, *, in_loop: bool) -> str:
    def inner(body: Body, *, loop: bool = in_loop) -> str:
        return "".join(_written(one, in_loop=loop) for one in body)

    match node:
        case Text(text):
            return re.sub(r"\{(?=\{)|\{\Z", '{{"{"}}', text)
        case Output(value):
            return "{{ " + _expression(value, in_loop) + " }}"
        case Loop(body, otherwise):
            other = "{{ else }}" + inner(otherwise) if otherwise else ""
            return (
                "{{ range "
                + _expression(Variable(LIST), in_loop)
                + " }}"
                + inner(body, loop=True)
                + other
                + "{{ end }}"
            )
        case Condition(branches, otherwise):
            parts = [
                f"{{{{ {'else ' * bool(index)}if {_expression(value, in_loop)} }}}}{inner(body)}"
                for index, (value, body) in enumerate(branches)
            ]
            return "".join(parts) + ("{{ else }}" + inner(otherwise) if otherwise else "") + "{{ end }}"


def _expression(value: Expression, in_loop: bool, *, nested: bool = False) -> str:
    """One expression; ``nested`` ones that are calls get parentheses."""

    def operands(*values: Expression) -> str:
        return " ".join(_expression(one, in_loop, nested=True) for one in values)

    match value:
        case Constant(bool(truth)):
            return "true" if truth else "false"
        case Constant(str(text)):
            return json.dumps(text, ensure_ascii=False)
        case Constant(number):
            return str(number)
        case Item():
            return "."
        case Variable(name):
            return f"$.{name}" if in_loop else f".{name}"
        case Comparison(operator, left, right):
            call = f"{NAMES[operator]} {operands(left, *right)}"
        case Junction(operator, values):
            call = f"{operator} {operands(*values)}"
        case Negation(operand):
            call = f"not {operands(operand)}"
    return f"({call})" if nested else call
