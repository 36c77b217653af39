"""What a person relies on when templates change their language: the same text, or a refusal."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.hydra.faults import HydraError
from slipway.hydra.gotemplate import parse_go
from slipway.hydra.gowrite import write_go
from slipway.hydra.jinja import parse_jinja, write_jinja
from slipway.hydra.shell import check_quotes
from slipway.hydra.tree import Body
from tests.unit.test_hydra.hydra_generated import templates, variables
from tests.unit.test_hydra.hydra_known import VALUES, Go

ENVIRONMENTS = [
    jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=keeps)
    for keeps in (True, False)
]
ROUNDS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def where(line: int) -> str:
    return f"config.yaml:{line}"


def go_tree(source: str) -> Body:
    return parse_go(source, where=where)


def jinja(source: str, values: dict[str, Any]) -> str:
    first, second = (environment.from_string(source).render(values) for environment in ENVIRONMENTS)
    assert first == second
    return first


@ROUNDS
@given(source=templates(), values=variables)
def test_jinja_renders_what_go_renders(go: Go, source: str, values: dict[str, Any]) -> None:
    made = go(source, values)
    assert made.get("error") is None, (source, made)

    assert jinja(write_jinja(go_tree(source)), values) == made["text"]


@ROUNDS
@given(source=templates(), values=variables)
def test_a_template_that_went_to_jinja_and_back_renders_the_same_in_go(
    go: Go, source: str, values: dict[str, Any]
) -> None:
    there = write_jinja(go_tree(source))
    back = write_go(parse_jinja(there, where=where))

    assert go(back, values)["text"] == go(source, values)["text"]
    assert write_jinja(go_tree(back)) == there


@ROUNDS
@given(data=st.data(), source=templates(), values=variables)
def test_a_damaged_template_is_refused_or_renders_what_go_renders(
    go: Go, data: st.DataObject, source: str, values: dict[str, Any]
) -> None:
    at = data.draw(st.integers(0, len(source)))
    gone = data.draw(st.integers(0, 3))
    put = data.draw(st.text(alphabet='{}-. \n"`|()$=:aendlsif/*#%0x1,_', max_size=4))
    damaged = source[:at] + put + source[at + gone :]
    try:
        tree = go_tree(damaged)
    except HydraError:
        return

    made = go(damaged, values)
    assert made.get("error") is None, (damaged, made)
    assert jinja(write_jinja(tree), values) == made["text"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"TP_SIZE": 2},
        {"CUSTOM_ARGS": ["--max-num-seqs=4", "--enforce-eager"]},
        {"IS_DISTRIBUTED": True, "IS_LEADER": True, "TP_SIZE": 8, "PP_SIZE": 2, "CUSTOM_ARGS": ["--a=b"]},
        {"IS_DISTRIBUTED": True},
    ],
)
def test_the_documents_example_renders_as_in_go(go: Go, example: str, changed: dict[str, Any]) -> None:
    values = VALUES | changed

    assert jinja(write_jinja(go_tree(example)), values) == go(example, values)["text"]


@pytest.mark.parametrize(
    "source",
    [
        "a {{- .MODEL_NAME -}} b",
        "a\n\t {{- /* gone */ -}} \n b",
        "{{ .MODEL_NAME }}\n",
        "\n\n{{- .MODEL_NAME }}\n\n",
        "{{-1}}{{- -1 -}} x",
        "${PATH%% *} {% raw %} {# x #} {{`{{`}} {%- endraw %}}",
        "{ {{ .TP_SIZE }}}",
        "{{if.IS_LEADER}}a{{else if(eq .TP_SIZE 1)}}b{{end}}",
        "{{ or .MODEL_ID .MODEL_NAME }} {{ and .TP_SIZE 0 }} {{ not .IS_LEADER }} {{ eq .TP_SIZE 3 2 1 }}",
        "{{ range .CUSTOM_ARGS }}{{ $.MODEL_NAME }}{{ else }}none{{ end }}",
        "$(LWS_LEADER_ADDRESS):{{ .RAY_PORT }}",
        r'{{ eq .MODEL_NAME "qwen\x33" `qwen` }} {{ "a\tb\"" }}',
    ],
)
def test_single_rules_of_go_hold(go: Go, source: str) -> None:
    made = go(source, VALUES)
    assert made.get("error") is None, made

    assert jinja(write_jinja(go_tree(source)), VALUES) == made["text"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('a\n{{ template "x" }}', "config.yaml:2): it has no counterpart"),
        ('{{ define "x" }}{{ end }}', "'define'"),
        ("{{ with .MODEL_NAME }}{{ end }}", "'with'"),
        ("{{ range .CUSTOM_ARGS }}{{ break }}{{ end }}", "'break'"),
        ("{{ $x := 1 }}", "'$x'"),
        ("{{ range $i, $a := .CUSTOM_ARGS }}{{ end }}", "range goes over .CUSTOM_ARGS only"),
        ("{{ range .MODEL_NAME }}{{ end }}", "range goes over .CUSTOM_ARGS only"),
        ('{{ printf "%s" .MODEL_NAME }}', "'printf'"),
        ("{{ index .CUSTOM_ARGS 0 }}", "'index'"),
        ("{{ len .CUSTOM_ARGS }}", "'len'"),
        ("{{ .MODEL }}", "no such variable. Variables are: RUN_TIME, MODEL_NAME"),
        ("{{ .CONTEXT_LENGTH }}", "no such variable"),
        ("{{ .MODEL_NAME.Size }}", "has no fields"),
        ("{{ . }}", "no value"),
        ("{{ .CUSTOM_ARGS }}", "a list cannot be put out"),
        ("{{ range .CUSTOM_ARGS }}{{ .MODEL_NAME }}{{ end }}", "Write $.MODEL_NAME"),
        ("{{ if gt .MODEL_NAME 1 }}{{ end }}", "a string with a whole number"),
        ('{{ if eq .MODEL_PORT "8000" }}{{ end }}', "a whole number with a string"),
        ("{{ if lt .IS_LEADER true }}{{ end }}", "have no order"),
        ("{{ if eq .CUSTOM_ARGS .CUSTOM_ARGS }}{{ end }}", "cannot be compared"),
        ("{{ or .TP_SIZE .MODEL_NAME }}", "several types cannot be put out"),
        ("{{ 1.5 }}", "not a whole number"),
        ("{{ 1e3 }}", "not a whole number"),
        ("{{ 'a' }}", "no value"),
        ("{{ 9223372036854775808 }}", "too large"),
        (r'{{ "\q" }}', "no escape of Go's"),
        (r'{{ "\xff" }}', "not UTF-8"),
        ("{{ nil }}", "'nil'"),
        ("{{ .MODEL_NAME 1 }}", "takes no argument"),
        ("{{ if .IS_LEADER }}", "has no end"),
        ("{{ if .IS_LEADER }}{{ else }}{{ else }}{{ end }}", "a second else"),
        ("{{ else end }}", "belongs to no if or range"),
        ("{{ if true }}a{{ else end }}", "does not belong here"),
        ("{{ end }}", "belongs to no if or range"),
        ("{{ .MODEL_NAME", "does not end"),
        ("{{/* a */ b }}", "a comment does not end"),
        ("{{ }}", "no value"),
        ("{{ (eq 1 1 }}", "does not belong here"),
        ("a\rb", "carriage return"),
        ("{{ " + "(" * 5000, "levels deep"),
        ("{{ if true }}" * 500, "levels deep"),
        ("{{ and " + "1 " * 3000 + "}}", "more than 32"),
        ("x" * 10_000, "too long"),
        ("{{ " + "x" * 8000 + " }}", "not a function"),
    ],
)
def test_what_go_knows_and_the_catalog_does_not_is_refused_by_name(source: str, message: str) -> None:
    with pytest.raises(HydraError) as caught:
        go_tree(source)

    assert message in str(caught.value) and "config.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_the_deepest_template_that_is_read_can_be_rendered() -> None:
    deep = "{{ range $.CUSTOM_ARGS }}" * 16 + "{{ . }}" + "{{ end }}" * 16

    assert jinja(write_jinja(go_tree(deep)), VALUES | {"CUSTOM_ARGS": ["a"]}) == "a"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ MODEL_NAME | upper }}", "'filter'"),
        ("\n{% set x = 1 %}", "config.yaml:2"),
        ("{% for a in [1] %}{% endfor %}", "only for"),
        ("{% for a in CUSTOM_ARGS if a %}{% endfor %}", "only for"),
        ("{% for a in CUSTOM_ARGS %}{% for b in CUSTOM_ARGS %}{{ a }}{% endfor %}{% endfor %}", "outer loop"),
        ("{% for a in CUSTOM_ARGS %}{{ loop.index }}{% endfor %}", "'getattr'"),
        ("{{ CUSTOM_ARGS }}", "a list cannot be put out"),
        ("{{ CONTEXT_LENGTH }}", "no variable CONTEXT_LENGTH"),
        ("{{ TP_SIZE + 1 }}", "'add'"),
        ("{% if 0 < TP_SIZE < 3 %}{% endif %}", "'compare'"),
        ("{% if TP_SIZE == '1' %}{% endif %}", "different types"),
        ("{{ 1.5 }}", "'const'"),
        ("{% if %}", "not a Jinja template"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "too deep"),
    ],
)
def test_what_jinja_knows_and_go_does_not_is_refused_with_its_line(source: str, message: str) -> None:
    with pytest.raises(HydraError, match=r"config\.yaml:") as caught:
        parse_jinja(source, where=where)

    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{% for a in CUSTOM_ARGS %} {{ a }} {{ MODEL_NAME }}{% endfor %}",
            "{{ range .CUSTOM_ARGS }} {{ . }} {{ $.MODEL_NAME }}{{ end }}",
        ),
        (
            "{% if TP_SIZE in (1, 2) and not IS_LEADER -%}\n a{% endif %}",
            "{{ if and (eq .TP_SIZE 1 2) (not .IS_LEADER) }}a{{ end }}",
        ),
        (
            "{{ '--a' if TP_SIZE > 1 else MODEL_NAME }}",
            "{{ if gt .TP_SIZE 1 }}--a{{ else }}{{ .MODEL_NAME }}{{ end }}",
        ),
        ("{{ IS_LEADER }}", "{{ if .IS_LEADER }}true{{ else }}false{{ end }}"),
        ("{{ '{{' }}{", '{{"{"}}{{"{"}}{{"{"}}'),
    ],
)
def test_what_the_catalog_writes_in_jinja_becomes_go(source: str, expected: str) -> None:
    assert write_go(parse_jinja(source, where=where)) == expected


@pytest.mark.parametrize("source", ["serve {{ CUSTOM_ARGS }}", "serve --a\n{{ CUSTOM_ARGS }};"])
def test_all_custom_arguments_at_once_become_a_range_in_a_shell_string(source: str) -> None:
    loop = "{{ range .CUSTOM_ARGS }} {{ . }}{{ end }}"

    assert write_go(parse_jinja(source, where=where, quoted=True)) == source.replace(
        "{{ CUSTOM_ARGS }}", loop
    )
    with pytest.raises(HydraError, match="behind white space"):
        parse_jinja("serve --a={{ CUSTOM_ARGS }}", where=where, quoted=True)


def test_a_filter_over_a_fixed_value_is_worked_out() -> None:
    tree = parse_jinja(
        "{% if REASONING_PARSER %}{{ REASONING_PARSER | replace('_', '-') | upper }}{% endif %}",
        where=where,
        fixed={"REASONING_PARSER": "a_b"},
    )

    assert write_go(tree) == '{{ if "a_b" }}A-B{{ end }}'


def test_a_value_that_hydra_does_not_have_can_be_fixed() -> None:
    tree = parse_jinja("--max-model-len={{ CONTEXT_LENGTH }}", where=where, fixed={"CONTEXT_LENGTH": 4096})

    assert write_go(tree) == "--max-model-len=4096"


@pytest.mark.parametrize(
    "source",
    [
        "serve --name '{{ .MODEL_NAME }}'",
        'serve --name "{{ .MODEL_NAME }}"',
        "serve # {{ .MODEL_NAME }}",
        "serve \\{{ .MODEL_NAME }}",
        "{{ if .IS_LEADER }}'{{ end }}{{ .MODEL_NAME }}",
        "{{ range .CUSTOM_ARGS }}{{ . }}'{{ end }}",
        "serve `echo {{ .MODEL_NAME }}`",
        "cat <<EOF\n{{ .MODEL_NAME }}\nEOF",
        "cat <<{{ .MODEL_NAME }}",
        "serve $'it\\'s {{ .MODEL_NAME }}'",
        "serve ${{ .MODEL_NAME }}",
    ],
)
def test_a_value_where_quoting_does_not_protect_it_is_refused(source: str) -> None:
    with pytest.raises(HydraError, match=r"config\.yaml:"):
        check_quotes(go_tree(source), where=where)


@ROUNDS
@given(value=st.text(alphabet="ab'\"\\ $`;\n#", max_size=6))
@pytest.mark.parametrize(
    "source",
    [
        "printf %s a{{ .MODEL_NAME }}",
        "printf '%s' \\# don\\'t# x'\"y'{{ .MODEL_NAME }}",
        "# don't\nprintf %s {{ .MODEL_NAME }}",
        'printf %s `echo "\'"` "$(echo a)" ${HOME#x}{{ .MODEL_NAME }}',
    ],
)
def test_a_value_outside_quotes_reaches_the_program_as_it_is(source: str, value: str) -> None:
    tree = go_tree(source)
    check_quotes(tree, where=where)
    environment = jinja2.Environment(finalize=lambda one: shlex.quote(str(one)), autoescape=False)
    text = environment.from_string(write_jinja(tree)).render(VALUES | {"MODEL_NAME": value})

    assert subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout.endswith(
        value
    )
