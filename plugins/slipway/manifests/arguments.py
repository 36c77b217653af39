"""A runtime's command and arguments: filled in, joined with an endpoint's and a run's own, and held against rules.

The rules of custom arguments (those of the accelerator, the endpoint and the run, in this order):

- Without a command, and with one that is no shell, they are appended to the runtime's; a flag that the runtime has
  already is replaced where it stands. Each is ``--flag`` or ``--flag=value``.
- With a command that ends in ``-c`` the runtime's one argument is a string for a shell and puts them out itself.
- Without any template they are all that the image's own program gets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from packaging.version import InvalidVersion, Version

from slipway.catalog.faults import Fault
from slipway.catalog.records import ArgumentRule, Program, Runtime
from slipway.errors import CatalogError, UsageError, bounded
from slipway.manifests.templating import FillingError, as_it_is, fill_shell, fill_text

_CUSTOM = re.compile(r"--[A-Za-z0-9][A-Za-z0-9_.+-]*(=.*)?", re.DOTALL)
_FLAG_IN_TEXT = re.compile(r"(?<![\w=/.-])--?[A-Za-z][\w.+-]*")
_SHELL = re.compile(r"(.*/)?(ba|da|a|z|k)?sh")
# A key in an argument is readable for everybody who may list processes or look at pods.
_KEY_FLAGS = ("--api-key", "--admin-api-key", "--hf-token", "--ssl-keyfile-password")


@dataclass(frozen=True)
class Filled:
    """A container's command and args, ready for Kubernetes."""

    command: list[str]
    args: list[str]


def fill(runtime: Runtime, variables: Mapping[str, Any], *, custom_args: Sequence[str]) -> Filled:
    """Fill in a runtime's templates.

    Args:
        runtime: whose templates.
        variables: by name; CUSTOM_ARGS comes besides.
        custom_args: what is appended, or what a shell string puts out.

    Raises:
        CatalogError: a template uses what is not there, or a value would not be safe where it stands.
    """
    known = {**variables, "CUSTOM_ARGS": list(custom_args)}
    if runtime.in_shell:
        return Filled(list(runtime.command), [_filled(runtime, "args", 0, known, quoted=True)])
    if any(_SHELL.fullmatch(word) for word in runtime.command[:-1]) and any(
        re.fullmatch(r"-[A-Za-z]*c[A-Za-z]*", word) for word in runtime.command
    ):
        raise CatalogError(
            "a shell reads an argument that is not quoted for it",
            about=f"catalog/runtimes/{runtime.name}.yaml: command",
            remedy="End command in -c on its own, such as [bash, -c], and put the shell's string into args",
        )
    command = [_filled(runtime, "command", place, known) for place in range(len(runtime.command))]
    own = [_filled(runtime, "args", place, known) for place in range(len(runtime.args))]
    return Filled(
        command, merge_arguments([part for part in own if part], [as_it_is(one) for one in custom_args])
    )


def argument_faults(
    arguments: Sequence[str], *, runtime: Runtime, program: Program | None = None
) -> Iterator[Fault]:
    """Say which of an endpoint's own arguments it may not have."""
    for argument in arguments:
        refusal = _refusal(argument, runtime, program, of="an endpoint")
        if refusal:
            yield Fault("args", str(refusal))


def refuse_protected(arguments: Sequence[str], *, runtime: Runtime, program: Program | None = None) -> None:
    """Refuse what a run's overrides may not say.

    Raises:
        UsageError: not a flag, or one that the rest of the release depends on.
    """
    for argument in arguments:
        refusal = _refusal(argument, runtime, program, of="an override")
        if refusal:
            raise refusal


def version_faults(arguments: Sequence[str], *, runtime: Runtime, program: Program | None) -> Iterator[Fault]:
    """Say which arguments the runtime's version of its program does not know, and which hold a key.

    Args:
        arguments: of all processes, as ``fill`` gives them.
        runtime: says the version.
        program: what is known of its arguments; flags without a rule are taken as known.
    """
    flags = dict.fromkeys(_flags(arguments, in_shell=runtime.in_shell))
    for flag in flags:
        if _means(flag, _KEY_FLAGS):
            yield Fault(
                "args", f"{flag}: a key is never an argument; name its Secret in the endpoint's api_key"
            )
    if program is None or runtime.version is None:
        return
    version = _comparable(runtime.version)
    if version is None:
        yield Fault(
            "runtime", f"the version {runtime.version!r} of {runtime.name!r} can be compared with none"
        )
        return
    for flag in flags:
        rule = _rules(program).get(flag)
        fault = rule and _version_fault(rule, version)
        if rule and fault:
            yield Fault(
                "args", f"{flag}: {program.name} {runtime.version} {fault}. {rule.instead}".rstrip(". ")
            )


def keys_faults(runtime: Runtime, program: Program | None) -> Iterator[Fault]:
    """Say why the runtime's program does not read several API keys from a file."""
    rule = program.keys_file if program else None
    if program is None or rule is None or runtime.version is None:
        yield Fault(
            "api_key.accepted", f"nothing is known of runtime {runtime.name!r} reading keys from a file"
        )
        return
    version = _comparable(runtime.version)
    fault = _version_fault(rule, version) if version else f"has the version {runtime.version!r}"
    if fault:
        yield Fault(
            "api_key.accepted", f"{program.name} {runtime.version} {fault}, or not with several keys in it"
        )


def parsed_by(runtime: Runtime, program: Program | None) -> bool:
    """Whether the program's own parser, of the very version, is there to check the arguments; else 'not run'."""
    return bool(program and program.parsed_version and runtime.version == program.parsed_version)


def flag_of(argument: str) -> str:
    """Return the flag of an argument as its program knows it: ``--Max_Model_Len=8`` is ``--max-model-len``.

    Underscores count as dashes, as vLLM's own parser takes them, so that a spelling cannot get around a rule.
    """
    return argument.split("=", 1)[0].replace("_", "-").lower()


def merge_arguments(*layers: Sequence[str]) -> list[str]:
    """Join lists of arguments: a later flag takes the place of an earlier one, all else keeps its place.

    A flag without ``=`` has the words after it for its values, as programs read them; so where it is replaced, they
    go too.
    """
    merged: dict[str | int, list[str]] = {}
    for layer in layers:
        group: list[str] | None = None
        for argument in layer:
            if argument.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", argument):
                merged[flag_of(argument)] = group = [argument]
            elif group is not None and "=" not in group[0]:
                group.append(argument)
            else:
                merged[len(merged)] = [argument]
    return [argument for group in merged.values() for argument in group]


def _filled(
    runtime: Runtime, field: str, place: int, variables: Mapping[str, Any], *, quoted: bool = False
) -> str:
    template = getattr(runtime, field)[place]
    where = f"catalog/runtimes/{runtime.name}.yaml: {field}.{place}"
    try:
        return fill_shell(template, variables) if quoted else fill_text(template, variables)
    except FillingError as error:
        raise CatalogError(
            "an argument of the runtime cannot be filled in",
            about=f"runtime {runtime.name}, {where}: {bounded(template, limit=80)}",
            why=str(error),
            remedy=f"Variables are: {', '.join(variables)}",
        ) from error


def _refusal(argument: str, runtime: Runtime, program: Program | None, *, of: str) -> UsageError | None:
    """Why an endpoint or an override may not have an argument."""
    flag = flag_of(argument)
    if not _CUSTOM.fullmatch(argument):
        return UsageError(
            f"{of}'s argument is not a flag",
            about=bounded(argument, limit=120),
            why="a value of its own would be read as something else",
            remedy="Write it as --flag or --flag=value",
        )
    protected = [*runtime.protected, *(program.protected if program else [])]
    meant = _means(flag, [*_KEY_FLAGS, *map(flag_of, protected)])
    if meant in _KEY_FLAGS:
        return UsageError(
            f"{of} may not set this flag",
            about=flag,
            why="everybody who may look at the pod would read the key",
            remedy="Name its Secret in the endpoint's api_key",
        )
    if meant:
        return UsageError(
            f"{of} may not set this flag",
            about=flag,
            why=f"the release's probes, Services, keys or safety depend on {meant}",
            remedy=f"Change catalog/runtimes/{runtime.name}.yaml, or make a runtime of your own",
        )
    return None


def _means(flag: str, flags: Sequence[str]) -> str | None:
    """Which of these flags a program could take this one for: itself, its beginning, or a part of its JSON.

    argparse, and vLLM's parser with it, completes a flag that begins only one; ``--flag.part=1`` sets a part.
    """
    whole = re.split(r"[.+]", flag, maxsplit=1)[0]
    return next((one for one in flags if len(whole) > 2 and one.startswith(whole)), None)


def _flags(arguments: Sequence[str], *, in_shell: bool) -> Iterator[str]:
    for argument in arguments:
        if in_shell:
            yield from map(flag_of, _FLAG_IN_TEXT.findall(argument))
        elif argument.startswith("-"):
            yield flag_of(argument)


@cache
def _comparable(version: str) -> Version | None:
    """A version without what came before its release: a release candidate has lost flags already."""
    try:
        return Version(Version(version).base_version)
    except InvalidVersion:
        return None


def _rules(program: Program) -> dict[str, ArgumentRule]:
    return {flag_of(rule.flag): rule for rule in program.arguments}


def _version_fault(rule: ArgumentRule, version: Version) -> str | None:
    since, until = (_comparable(one) if one else None for one in (rule.since, rule.until))
    if since and version < since:
        return f"does not know it yet, {rule.since} does"
    if until and version >= until:
        return f"does not know it any more, since {rule.until}"
    return None
