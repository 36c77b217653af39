"""Trees as Jinja templates of the catalog, and Jinja templates as trees.

What is written depends on no option of the Jinja environment for its white space, except that ``trim_blocks`` and
``lstrip_blocks`` are off, as they are by default.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import cast

import jinja2
from jinja2 import nodes

from slipway.errors import bounded
from slipway.hydra.faults import HydraError, Where
from slipway.hydra.tree import (
    DEEPEST,
    LIST,
    VARIABLES,
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
    joined,
    junction,
    kind_of,
    output,
)

ITEM = "argument"
SUBSET = (
    "Hydra's templates can have variables, if, elif, else, for over CUSTOM_ARGS, comparisons, and, or, not and"
    " constants"
)
_SIGNS: Mapping[str, Sign] = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}
_ENVIRONMENT = jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701 - arguments, not HTML


def write_jinja(body: Body) -> str:
    """Write a template so that Jinja renders the same text."""
    text = "".join(_written(node) for node in body)
    # Jinja drops one line end at the end of a template unless it is told not to.
    return text + "{% raw %}{% endraw %}" if text.endswith("\n") else text


def _written(node: Text | Output | Condition | Loop) -> str:
    def inner(body: Body) -> str:
        return "".join(_written(one) for one in body)

    match node:
        case Text(text):
            # A brace that could begin a tag with what follows. Not as a string in a tag: that would be shell-quoted.
            return re.sub(r"\{(?=[{%#])|\{\Z", "{% raw %}{{% endraw %}", text)
        case Output(value):
            return "{{ " + _expression(value) + " }}"
        case Loop(body, otherwise):
            other = "{% else %}" + inner(otherwise) if otherwise else ""
            return f"{{% for {ITEM} in {LIST} %}}{inner(body)}{other}{{% endfor %}}"
        case Condition(branches, otherwise):
            parts = [
                f"{{% {'el' * bool(index)}if {_expression(value)} %}}{inner(branch)}"
                for index, (value, branch) in enumerate(branches)
            ]
            return "".join(parts) + ("{% else %}" + inner(otherwise) if otherwise else "") + "{% endif %}"


def _expression(value: Expression, *, nested: bool = False) -> str:
    match value:
        case Constant(bool(truth)):
            return "true" if truth else "false"
        case Constant(str(text)):
            return _string(text)
        case Constant(number):
            return str(number)
        case Item():
            return ITEM
        case Variable(name):
            return name
        case Comparison(operator, left, (right,)):
            made = f"{_expression(left, nested=True)} {operator} {_expression(right, nested=True)}"
        case Comparison(_, left, several):
            choices = ", ".join(_expression(one, nested=True) for one in several)
            made = f"{_expression(left, nested=True)} in ({choices})"
        case Junction(operator, operands):
            made = f" {operator} ".join(_expression(one, nested=True) for one in operands)
        case Negation(operand):
            made = f"not {_expression(operand, nested=True)}"
    return f"({made})" if nested else made


def _string(text: str) -> str:
    """A Jinja string: its escapes are Python's."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found.group()):02x}", escaped) + "'"


def parse_jinja(
    source: str, *, where: Where, fixed: Mapping[str, str | int] | None = None, quoted: bool = False
) -> Body:
    """Read a Jinja template of the catalog.

    Args:
        source: its text.
        where: what to call a line of it in an error.
        fixed: values for variables that Hydra does not have.
        quoted: whether it is a string for a shell, into which values go quoted.

    Raises:
        HydraError: not a Jinja template, or one with more than Hydra's templates can say.
    """
    try:
        template = _ENVIRONMENT.parse(source)
        return _Reader(where, fixed or {}, quoted).body(template.body)
    except jinja2.TemplateSyntaxError as error:
        raise HydraError(
            "not a Jinja template", about=where(error.lineno), why=bounded(str(error.message))
        ) from error
    except RecursionError as error:
        raise HydraError("a template is too deep", about=where(1), remedy="Make it flatter") from error


class _Reader:
    """Jinja's own syntax tree to ours."""

    def __init__(self, where: Where, fixed: Mapping[str, str | int], quoted: bool) -> None:
        self._where, self._fixed, self._quoted = where, fixed, quoted
        self._items: list[str] = []
        self._depth = 0

    def body(self, source: Sequence[nodes.Node]) -> Body:
        self._depth += 1
        if self._depth > DEEPEST:
            raise HydraError("a template is too deep", about=self._where(1), remedy="Make it flatter")
        made: list[Text | Output | Condition | Loop] = []
        for node in source:
            match node:
                case nodes.Output():
                    for one in node.nodes:
                        made.append(self._all_arguments(one, made) or self._output(one))
                case nodes.If():
                    made.append(self._condition(node))
                case nodes.For():
                    made.append(self._loop(node))
                case _:
                    raise self._refused(node)
        self._depth -= 1
        return joined(made)

    def _refused(self, node: nodes.Node, why: str = "Go's templates have nothing like it") -> HydraError:
        name = type(node).__name__.lower()
        return HydraError(f"{name!r} in a template", about=self._where(node.lineno), why=why, remedy=SUBSET)

    def _all_arguments(
        self, node: nodes.Expr, before: Sequence[Text | Output | Condition | Loop]
    ) -> Loop | None:
        """The loop that ``{{ CUSTOM_ARGS }}`` stands for in a shell string: each as a word of its own."""
        if not self._quoted or not isinstance(node, nodes.Name) or node.name != LIST or LIST in self._items:
            return None
        last = before[-1] if before else None
        if not isinstance(last, Text) or not last.text[-1:].isspace():
            raise self._refused(node, f"{LIST} stands for several words only behind white space")
        return Loop((Text(" ", node.lineno), Output(Item(), node.lineno)), ())

    def _output(self, node: nodes.Expr) -> Text | Output | Condition:
        if isinstance(node, nodes.TemplateData):
            return Text(node.data, node.lineno)
        about = self._where(node.lineno)
        if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
            test = self._tested(node.test)
            return Condition(((test, (self._output(node.expr1),)),), joined([self._output(node.expr2)]))
        made = output(self._expression(node), line=node.lineno, about=about)
        return Text(shlex.quote(made.text), made.line) if self._quoted and isinstance(made, Text) else made

    def _tested(self, node: nodes.Node) -> Expression:
        value = self._expression(node)
        kind_of(value, about=self._where(node.lineno))
        return value

    def _condition(self, node: nodes.If) -> Condition:
        branches = [(self._tested(one.test), self.body(one.body)) for one in (node, *node.elif_)]
        return Condition(tuple(branches), self.body(node.else_))

    def _loop(self, node: nodes.For) -> Loop:
        over = node.iter
        plain = isinstance(node.target, nodes.Name) and node.test is None and not node.recursive
        if not plain or not isinstance(over, nodes.Name) or over.name != LIST or LIST in self._items:
            raise self._refused(node, f"only for … in {LIST} has a counterpart")
        assert isinstance(node.target, nodes.Name)
        self._items.append(node.target.name)
        body = self.body(node.body)
        self._items.pop()
        return Loop(body, self.body(node.else_))

    def _expression(self, node: nodes.Node) -> Expression:
        match node:
            case nodes.Const(value=bool() | int() | str() as value):
                return Constant(value)
            case nodes.Neg(node=nodes.Const(value=int() as value)) if not isinstance(value, bool):
                return Constant(-value)
            case nodes.Name():
                return self._name(node)
            case nodes.Not():
                return Negation(self._expression(node.node))
            case nodes.And() | nodes.Or():
                operands = [self._expression(node.left), self._expression(node.right)]
                about = self._where(node.lineno)
                return junction("and" if isinstance(node, nodes.And) else "or", operands, about=about)
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Compare(ops=[operand]):
                return self._comparison(node, operand)
            case _:
                raise self._refused(node)

    def _filtered(self, node: nodes.Filter) -> Constant:
        """A filter over what is fixed: it can be worked out here."""

        def with_values(one: nodes.Node) -> nodes.Node:
            if isinstance(one, nodes.Name) and one.name in self._fixed and one.name not in self._items:
                return nodes.Const(self._fixed[one.name], environment=_ENVIRONMENT)
            if isinstance(one, nodes.Filter) and one.node is not None:
                one.node = cast(nodes.Expr, with_values(one.node))
            return one

        try:
            value = cast(nodes.Filter, with_values(node)).as_const(nodes.EvalContext(_ENVIRONMENT))
        except nodes.Impossible:
            raise self._refused(node) from None
        if not isinstance(value, str | int):
            raise self._refused(node)
        return Constant(value)

    def _name(self, node: nodes.Name) -> Expression:
        if node.name in self._items:
            if node.name != self._items[-1]:
                raise self._refused(node, "it is an outer loop's; Go's dot is always the innermost one's")
            return Item()
        if node.name in VARIABLES:
            return Variable(node.name)
        if node.name in self._fixed:
            return Constant(self._fixed[node.name])
        raise HydraError(f"Hydra has no variable {node.name}", about=self._where(node.lineno))

    def _comparison(self, node: nodes.Compare, operand: nodes.Operand) -> Comparison:
        left = self._expression(node.expr)
        if operand.op in _SIGNS:
            return Comparison(_SIGNS[operand.op], left, (self._expression(operand.expr),))
        if operand.op == "in" and isinstance(operand.expr, nodes.Tuple | nodes.List) and operand.expr.items:
            return Comparison("==", left, tuple(self._expression(one) for one in operand.expr.items))
        raise self._refused(node)
