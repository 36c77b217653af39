"""Every place of a record that takes text, found by walking the types: for tests that put hostile values there.

Nothing here names a field, so a new one is covered by itself.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from slipway.catalog.records import Record

Put = Callable[[Any, Any], Any]
"""From what a record has in a place and a value to what it should have there."""

MARK = "benign7"
OTHER = "other7"
# One of these suits every kind of text that records know; the mark shows where a value ends up. What has to be there
# besides it is made from the same, with another mark.
SUITABLE: tuple[Any, ...] = (
    MARK,
    f"--{MARK}",
    f"--{MARK}=1",
    f"/{MARK}",
    f"http://{MARK}",
    f"s3://{MARK}/x",
    f"oss://{MARK}/x",
    f"nfs://{MARK}/x",
    f"{MARK}.example/x",
    "17Gi",
    "17.0.7",
    "17s",
    "10.7.7.7",
    "enUS",
    "Benign7",
    "extra.be",
    "be",
    "0774",
    1,
    8000,
    30000,
    0.5,
    True,
    None,
)


@dataclass(frozen=True)
class Place:
    """A place for text: where it is, for people, and how to put a value there."""

    where: str
    put: Put


def places(annotation: Any, where: str = "") -> Iterator[Place]:
    """All places for text in a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is str:
        yield Place(where, lambda _, value: value)
    elif annotation is JsonValue:
        yield from _anything(where)
    elif isinstance(annotation, type) and issubclass(annotation, Record):
        yield from _in_record(annotation, where)
    elif origin is Annotated:
        yield from places(arguments[0], where)
    elif origin in (Union, types.UnionType):
        yield from (one for member in arguments for one in places(member, where))
    elif origin in (list, dict):
        yield from _in_collection(arguments, where)


def _in_collection(arguments: tuple[Any, ...], where: str) -> Iterator[Place]:
    """Places in a list's item, or in a dict's key and value."""
    if len(arguments) == 1:
        for one in places(arguments[0], f"{where}[]"):
            yield Place(one.where, _in_list(one.put))
        return
    key, value = arguments
    for one in places(key, f"{where}.KEY"):
        yield Place(one.where, _as_key(one.put, value))
    for one in places(value, f"{where}.*"):
        yield Place(one.where, _in_dict(one.put, key))


def _anything(where: str) -> Iterator[Place]:
    """Text, at some depth, and keys where any JSON is taken."""
    yield Place(where, lambda _, value: value)
    yield Place(f"{where}.nested[]", lambda _, value: {"nested": [value]})
    yield Place(f"{where}.nested.KEY", lambda _, value: {"nested": {value: "x"}})


def _in_record(kind: type[Record], where: str) -> Iterator[Place]:
    for name, field in kind.model_fields.items():
        for one in places(whole(field), f"{where}.{name}"):

            def put(base: Any, value: Any, name: str = name, inner: Put = one.put) -> Any:
                start = base if isinstance(base, dict) and base else minimal(kind)
                return {**start, name: inner(start.get(name), value)}

            yield Place(one.where, put)


def _in_list(put: Put) -> Put:
    def apply(base: Any, value: Any) -> Any:
        if base and isinstance(base[0], dict):
            return [put(base[0], value), *base[1:]]
        return [*(base or []), put(None, value)]

    return apply


def _as_key(put: Put, item: Any) -> Put:
    return lambda base, text: {**(base or {}), put(None, text): sample(item)}


def _in_dict(put: Put, key: Any) -> Put:
    def apply(base: Any, value: Any) -> Any:
        name = next(iter(base), None) if base else None
        name = name if name is not None else sample(key)
        return {**(base or {}), name: put((base or {}).get(name), value)}

    return apply


def whole(field: FieldInfo) -> Any:
    """A field's type with its rules."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def minimal(kind: type[Record]) -> dict[str, Any]:
    """The required fields of a record, with anything that suits."""
    return {name: sample(whole(field)) for name, field in kind.model_fields.items() if field.is_required()}


def sample(annotation: Any) -> Any:
    """Anything that suits a type.

    Raises:
        LookupError: nothing that is known here does: add it to ``SUITABLE``.
    """
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) is Literal:
        return get_args(bare)[0]
    if isinstance(bare, type) and issubclass(bare, Record):
        return minimal(bare)
    if get_origin(bare) is list:
        return [sample(get_args(bare)[0])]
    if get_origin(bare) is dict:
        return {sample(get_args(bare)[0]): sample(get_args(bare)[1])}
    adapter = TypeAdapter(annotation)
    for suitable in SUITABLE:
        value = suitable.replace(MARK, OTHER) if isinstance(suitable, str) else suitable
        try:
            adapter.validate_python(value)
        except ValidationError:
            continue
        return value
    raise LookupError(f"no sample suits {annotation}")
