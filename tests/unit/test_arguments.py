"""What a person who writes a runtime, an endpoint's args or an override relies on."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.catalog.records import ArgumentRule, Program, Runtime
from slipway.errors import CatalogError, UsageError
from slipway.manifests.arguments import (
    argument_faults,
    fill,
    flag_of,
    merge_arguments,
    parsed_by,
    refuse_protected,
    version_faults,
)

VARIABLES: dict[str, Any] = {
    "MODEL_NAME": "ds",
    "MODEL_PATH": "/data/serving-model",
    "TP_SIZE": 8,
    "IS_DISTRIBUTED": False,
    "IS_LEADER": True,
    "TOOL_CALL_PARSER": None,
}
SHELL = ["/bin/bash", "-c"]
HOSTILE = [
    "--x=a b",
    "--x=';touch pwned;'",
    '--x=";touch pwned;"',
    "--x=$(touch pwned)",
    "--x=`touch pwned`",
    "--x=\ntouch pwned\n",
    "--x=a\\",
    "--x={{ 7 * 7 }}{% raw %}",
    "--x=#&|<>*?~!",
    "--x=密钥",
]


def runtime(*, command: list[str] | None = None, args: list[str] | None = None, **more: Any) -> Runtime:
    record = {"name": "mine", "task": "chat", "images": {"cpu": "localhost/mine:1"}}
    return Runtime.model_validate({**record, "command": command or [], "args": args or [], **more})


def words(shell_string: str) -> list[str]:
    """What a program gets from a shell string, after Kubernetes and bash have read it."""
    printed = "import json, sys; print(json.dumps(sys.argv[1:]))"
    script = f"python3 -c {shlex.quote(printed)} {shell_string.replace('$$', '$')}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    return list(json.loads(done.stdout))


# The three rules of custom arguments.


def test_without_a_command_custom_arguments_follow_the_runtimes_own() -> None:
    one = runtime(args=["--model={{ MODEL_PATH }}", "--max-num-seqs=8"])

    filled = fill(one, VARIABLES, custom_args=["--seed=1", "--max_num_seqs=4"])

    assert filled.command == []
    assert filled.args == ["--model=/data/serving-model", "--max_num_seqs=4", "--seed=1"]


def test_without_any_template_custom_arguments_are_all_that_the_image_gets() -> None:
    filled = fill(runtime(), VARIABLES, custom_args=["--model=/m", "--port=8000"])

    assert (filled.command, filled.args) == ([], ["--model=/m", "--port=8000"])


def test_a_shell_string_says_itself_where_custom_arguments_go() -> None:
    one = runtime(command=SHELL, args=["vllm serve {{ MODEL_PATH }} {{ CUSTOM_ARGS }} --last"])

    filled = fill(one, VARIABLES, custom_args=["--seed=1", "--x=a b"])

    assert filled.command == SHELL
    assert filled.args == ["vllm serve /data/serving-model --seed=1 '--x=a b' --last"]


def test_a_shell_string_that_forgets_custom_arguments_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValueError, match="an endpoint's args would be lost"):
        runtime(command=SHELL, args=["vllm serve {{ MODEL_PATH }}"])


def test_a_condition_leaves_an_argument_out() -> None:
    one = runtime(
        args=["--a", "{% if TOOL_CALL_PARSER %}--tool-call-parser={{ TOOL_CALL_PARSER }}{% endif %}"]
    )

    assert fill(one, VARIABLES, custom_args=[]).args == ["--a"]
    assert fill(one, {**VARIABLES, "TOOL_CALL_PARSER": "hermes"}, custom_args=[]).args == [
        "--a",
        "--tool-call-parser=hermes",
    ]


MERGED = [
    (
        [["serve", "/data/serving-model", "--a=1"], ["--b", "--a=2"]],
        ["serve", "/data/serving-model", "--a=2", "--b"],
    ),
    ([["--port", "8000", "--a"], ["--port=9"]], ["--port=9", "--a"]),
    ([["--seed", "-1", "--a"], ["--b"]], ["--seed", "-1", "--a", "--b"]),
    ([["run", "run", "-m", "x"], ["--x=1"]], ["run", "run", "-m", "x", "--x=1"]),
    ([["--hf-overrides.a=1"], ["--hf-overrides.b=2"]], ["--hf-overrides.a=1", "--hf-overrides.b=2"]),
    ([["--enforce-eager"], ["--enforce_eager"]], ["--enforce_eager"]),
]


@pytest.mark.parametrize(("layers", "merged"), MERGED)
def test_a_later_flag_replaces_an_earlier_one_and_all_else_keeps_its_place(
    layers: list[list[str]], merged: list[str]
) -> None:
    assert merge_arguments(*layers) == merged


# Quoting.

PLACES = [
    "x {{ CUSTOM_ARGS }}",
    "x {{ CUSTOM_ARGS | join(' ') }}",
    "x{% for one in CUSTOM_ARGS %} {{ one }}{% endfor %}",
    "x {% for one in CUSTOM_ARGS -%} {{ one }} {% endfor %}",
]


@pytest.mark.parametrize("template", PLACES)
def test_a_custom_argument_is_one_word_for_the_program_whatever_is_in_it(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = fill(runtime(command=SHELL, args=[template]), VARIABLES, custom_args=HOSTILE)

    assert words(filled.args[0]) == ["x", *HOSTILE]
    assert not list(tmp_path.iterdir())


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20),
        max_size=3,
    )
)
def test_shell_words_are_those_that_went_in(values: list[str]) -> None:
    filled = fill(runtime(command=SHELL, args=["{{ CUSTOM_ARGS }}"]), VARIABLES, custom_args=values)

    assert shlex.split(filled.args[0].replace("$$", "$")) == values


UNSAFE = [
    ('"{{ V }}"', "stands in quotes"),
    ("'{{ V }}'", "stands in quotes"),
    ("$'{{ V }}'", "stands in quotes"),
    ("\\{{ V }}", "a backslash"),
    ("${{ V }}", "the reach of \\$"),
    ("`{{ V }}`", "backticks"),
    ("${X:-{{ V }}}", "braces"),
    ("x # {{ V }}", "a comment"),
    ("cat <<END\n{{ V }}\nEND", "a here-document"),
    ('echo "$(echo "{{ V }}")"', "a command inside double quotes"),
    ("echo $((1 + {{ V }}))", "arithmetic"),
    ("eval x {{ V }}", "eval"),
    ("sh -c {{ V }}", "a shell's -c"),
    ("{% filter replace(\"'\", '') %}{{ V }}{% endfilter %}", "FilterBlock"),
    ("{% set v %}{{ V }}{% endset %}{{ v }}", "AssignBlock"),
    ("{% macro m() %}{{ V }}{% endmacro %}{{ m() }}", "Macro"),
    ("{{ V | safe }}", "no filter safe"),
    ("{{ V.__class__ }}", "Getattr"),
    ("{{ V['__class__'] }}", "unsafe|undefined|no attribute"),
    ("{{ V() }}", "Call"),
    ("{% include '/etc/passwd' %}", "Include"),
    ("{{ NOPE }}", "'NOPE' is undefined"),
    ("{{ NOTHING }}", "not set here"),
    ("{{ V", "unexpected end|expected token"),
]


@pytest.mark.parametrize(("template", "why"), UNSAFE)
def test_what_would_get_around_quoting_is_refused_with_file_and_field(template: str, why: str) -> None:
    one = runtime(command=SHELL, args=[f"{template}{{# CUSTOM_ARGS #}}"])

    with pytest.raises(CatalogError, match=why) as error:
        fill(one, {"V": "a; $(id)", "NOTHING": None}, custom_args=[])

    assert "catalog/runtimes/mine.yaml: args.0" in str(error.value)


SAFE = [
    'export A="$HOME"; x {{ V }}',
    "x={{ V }}; echo done",
    "# that's a comment\nx {{ V }}",
    "echo 'it is' \"fine\" {{ V }}",
    'if [ -f "$f" ]; then . "$f"; fi; x {{ V }}',
    "x <<< {{ V }}",
    "a && x $(LWS_LEADER_ADDRESS):{{ V }}",
]


@pytest.mark.parametrize("template", SAFE)
def test_ordinary_shell_text_takes_values(template: str) -> None:
    filled = fill(
        runtime(command=SHELL, args=[f"{template}{{# CUSTOM_ARGS #}}"]), {"V": "a b"}, custom_args=[]
    )

    assert filled.args == [template.replace("{{ V }}", "'a b'")]


@pytest.mark.parametrize(
    "command", [["bash", "-lc"], ["/bin/sh", "-c", "vllm serve {{ MODEL_PATH }}"], ["bash", "-ec", "x"]]
)
def test_a_shell_that_reads_what_is_not_quoted_for_it_is_refused(command: list[str]) -> None:
    with pytest.raises(CatalogError, match=r"a shell reads an argument.*End command in -c"):
        fill(runtime(command=command), VARIABLES, custom_args=[])


def test_the_custom_arguments_are_not_one_argument_of_a_list() -> None:
    with pytest.raises(CatalogError, match="appended by themselves"):
        fill(runtime(args=["--x={{ CUSTOM_ARGS }}"]), VARIABLES, custom_args=["--y"])


def test_kubernetes_expands_variables_of_the_runtime_and_of_nobody_else() -> None:
    asked = ["--otlp-traces-endpoint=http://elsewhere/$(VLLM_API_KEY)"]
    listed = fill(
        runtime(args=["--rank=$(LWS_WORKER_INDEX)", "--n={{ V }}"]), {"V": "$(A)"}, custom_args=asked
    )
    shell = fill(
        runtime(command=SHELL, args=["x $(LWS_LEADER_ADDRESS) {{ CUSTOM_ARGS }}"]), {}, custom_args=asked
    )

    assert listed.args == ["--rank=$(LWS_WORKER_INDEX)", "--n=$$(A)", asked[0].replace("$", "$$")]
    assert shell.args == [f"x $(LWS_LEADER_ADDRESS) '{asked[0].replace('$', '$$')}'"]


# What an endpoint and an override may say.

PROGRAM = Program(
    name="vllm",
    parsed_version="0.32.0",
    protected=["--port", "--trust-remote-code", "--config"],
    arguments=[
        ArgumentRule(flag="--swap-space", until="0.18.0", instead="Leave it out"),
        ArgumentRule(flag="--nnodes", since="0.11.2", instead="Ray"),
        ArgumentRule(flag="--dtype"),
    ],
)
REFUSED = [
    ("--port=1", r"may not set this flag \(--port\)"),
    ("--Port=1", r"may not set this flag \(--port\)"),
    ("--trust_remote_code", r"may not set this flag \(--trust-remote-code\)"),
    ("--trust-remote", "depend on --trust-remote-code"),
    ("--por=1", "depend on --port"),
    ("--port.x=1", "depend on --port"),
    ("--config=/tmp/x.yaml", "depend on --config"),
    ("--host=::", "depend on --host"),
    ("--api-key=secret", "endpoint's api_key"),
    ("--api_key=secret", "endpoint's api_key"),
    ("--api-k=secret", "endpoint's api_key"),
    ("--port 9", "is not a flag"),
    ("--", "is not a flag"),
    ("-tp=2", "is not a flag"),
    ("value", "is not a flag"),
    ("rm -rf /", "is not a flag"),
]


@pytest.mark.parametrize(("argument", "message"), REFUSED)
def test_no_spelling_of_a_protected_flag_gets_through(argument: str, message: str) -> None:
    one = runtime(protected=["--host"], program="vllm")

    with pytest.raises(UsageError, match=message):
        refuse_protected([argument], runtime=one, program=PROGRAM)
    faults = list(argument_faults([argument], runtime=one, program=PROGRAM))
    assert [fault.field for fault in faults] == ["args"]


@pytest.mark.parametrize(
    "argument",
    [
        "--seed=1",
        "--portable",
        "--config-format=hf",
        "--hf-overrides.a.b=1",
        "--x+=1",
        "--x=a\nb",
        "--tx",
    ],
)
def test_other_flags_are_the_endpoints_own_business(argument: str) -> None:
    refuse_protected([argument], runtime=runtime(program="vllm"), program=PROGRAM)


VERSIONS = [
    ("0.12.0", [], ["--swap-space=16", "--nnodes=2", "--dtype=half", "--unheard-of"]),
    ("0.17.1", [], ["--swap_space=16"]),
    (
        "0.18.0",
        ["--swap-space: vllm 0.18.0 does not know it any more, since 0.18.0. Leave it out"],
        ["--swap-space=16"],
    ),
    ("0.18.0rc1", ["--swap-space"], ["--swap-space=16"]),
    ("0.32.0", ["--swap-space"], ["--swap_space", "16"]),
    (
        "0.11.0",
        ["--nnodes: vllm 0.11.0 does not know it yet, 0.11.2 does. Ray"],
        ["--nnodes=2", "--swap-space=1"],
    ),
    ("0.8.5.dev940", ["--nnodes"], ["--nnodes=2"]),
]


@pytest.mark.parametrize(("version", "messages", "arguments"), VERSIONS)
def test_a_flag_that_the_version_does_not_know_is_named_with_what_to_write_instead(
    version: str, messages: list[str], arguments: list[str]
) -> None:
    one = runtime(program="vllm", version=version)

    faults = list(version_faults(arguments, runtime=one, program=PROGRAM))

    assert [fault.field for fault in faults] == ["args"] * len(messages)
    assert all(fault.message.startswith(expected) for fault, expected in zip(faults, messages, strict=True))


def test_flags_are_found_in_a_shell_string_too() -> None:
    one = runtime(program="vllm", version="0.32.0", command=SHELL, args=["{{ CUSTOM_ARGS }}"])
    text = ["exec vllm serve /m --swap-space 16 --x=--nnodes --api-key=$KEY"]

    faults = list(version_faults(text, runtime=one, program=PROGRAM))

    assert [fault.message.split(":")[0] for fault in faults] == ["--api-key", "--swap-space"]


@pytest.mark.parametrize("argument", ["--api-key=x", "--api_key", "--admin-api-key=x", "--hf-token=x"])
def test_a_key_is_never_an_argument_in_any_layer(argument: str) -> None:
    faults = list(version_faults([argument], runtime=runtime(), program=None))

    assert len(faults) == 1 and "name its Secret in the endpoint's api_key" in faults[0].message


def test_only_the_very_version_is_parsed_by_the_programs_own_parser() -> None:
    assert parsed_by(runtime(program="vllm", version="0.32.0"), PROGRAM)
    assert not parsed_by(runtime(program="vllm", version="0.12.0"), PROGRAM)
    assert not parsed_by(runtime(program="sglang"), Program(name="sglang"))
    assert not parsed_by(runtime(), None)


def test_a_flag_is_known_in_every_spelling_that_its_program_takes() -> None:
    assert {flag_of(one) for one in ("--Max_Model_Len=8", "--max-model-len", "--max_model-len=x=y")} == {
        "--max-model-len"
    }
