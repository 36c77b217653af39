"""What people rely on before anything is made: which steps there are, what is approved, what a refusal tells."""

from __future__ import annotations

import pytest
import yaml

from slipway.cli import main
from slipway.cluster.faults import ApiError
from slipway.errors import ClusterError, SlipwayError, UsageError
from slipway.prepare import steps
from slipway.prepare.outlook import Outlook, change_of, markdown, outlook, table
from slipway.prepare.refusals import missing_rule
from slipway.prepare.target import Target
from tests.unit.prepare_fakes import CATALOG, COMPANY, FORBIDDEN, target, with_setup

# -- steps


def test_a_cluster_has_the_steps_that_its_record_asks_for_in_the_order_of_their_needs() -> None:
    made = steps.steps_of(CATALOG.clusters["hydra-worker"])
    ids = [step.id for step in made]

    assert ids == [
        *("gateway-api", "namespaces", "node-labels"),
        *("charts/hydra-agent", "charts/metallb", "charts/csi-driver-nfs", "charts/gpu-operator"),
        *("storage-classes", "address-pools", "grants", "gateway", "routes"),
    ]
    for place, step in enumerate(made):
        assert not set(step.after) & set(ids[place:]), f"{step.id} comes before what it needs"
    assert [step.id for step in steps.steps_of(with_setup())] == []


CHOICES: list[tuple[list[str], list[str] | None]] = [
    (["charts"], ["charts/hami", "charts/nfs-client"]),
    (["charts/hami", "namespaces"], ["namespaces", "charts/hami"]),
    (["chart"], None),
    (["charts/ham"], None),
    (["gateway"], None),
]


@pytest.mark.parametrize(("names", "expected"), CHOICES)
def test_steps_are_chosen_by_id_or_all_charts_at_once(names: list[str], expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match=r"no such step .*Its record has: namespaces, node-labels"):
            steps.chosen(CATALOG.clusters["ai-serving"], names)
    else:
        assert [step.id for step in steps.chosen(CATALOG.clusters["ai-serving"], names)] == expected


# -- what was approved


def step_that(before: Outlook, after: Outlook, made: list[str]) -> steps.Step:
    looks = iter([before, after])
    return steps.Step(id="x", title="x", look=lambda _: next(looks), make=lambda _: made.append("made"))


NEW = outlook("x", "x", [change_of("ConfigMap a/b", "+x", new=True)])
THERE = outlook("x", "x", [])
BLOCKED = Outlook(step="x", title="x", state="blocked", reason="no", remedy="yes")


def test_what_is_there_is_not_made_again() -> None:
    made: list[str] = []

    assert steps.make(target(COMPANY), step_that(THERE, THERE, made), approved={}).state == "there"
    assert made == []


def test_what_was_approved_is_made_and_looked_at_again() -> None:
    made: list[str] = []

    steps.make(target(COMPANY), step_that(NEW, THERE, made), approved=NEW.approved)

    assert made == ["made"]
    with pytest.raises(ClusterError, match="x was made and is not there"):
        steps.make(target(COMPANY), step_that(NEW, NEW, made), approved=NEW.approved)


@pytest.mark.parametrize(
    "approved", [{}, {"ConfigMap a/b": "another digest"}, {"ConfigMap a/c": NEW.changes[0].digest}]
)
def test_what_nobody_approved_is_not_made(approved: dict[str, str]) -> None:
    made: list[str] = []

    with pytest.raises(UsageError, match="what would change now is not what was approved"):
        steps.make(target(COMPANY), step_that(NEW, THERE, made), approved=approved)
    assert made == []


def test_a_blocked_step_says_why_and_what_lifts_it() -> None:
    with pytest.raises(ClusterError, match=r"x cannot be made \(company\): no\. yes"):
        steps.make(target(COMPANY), step_that(BLOCKED, BLOCKED, []), approved={})


def test_a_step_that_cannot_be_looked_at_is_blocked_and_no_error() -> None:
    def fail(_: Target) -> Outlook:
        raise UsageError("no such connection", about="c", remedy="Make it")

    found = steps.look(target(COMPANY), steps.Step(id="x", title="x", look=fail, make=lambda _: None))

    assert (found.state, found.reason, found.remedy) == ("blocked", "no such connection (c)", "Make it")


def test_a_plan_is_read_as_a_table_and_on_a_page() -> None:
    long = change_of("CustomResourceDefinition c", "\n".join(f"+{n}" for n in range(500)), new=True)
    outlooks = [THERE, outlook("y", "y", [long]), BLOCKED.model_copy(update={"step": "z", "reason": "a|b"})]
    text, page = table(outlooks), markdown(outlooks)

    assert text.splitlines()[-1] == "3 steps: 2 to do, 1 of them blocked"
    assert "missing" in text and "380 more lines" in text and "+119" in text and "+120" not in text
    assert "| `z` | blocked | a/b |" in page and len(markdown(outlooks, limit=200)) < 300
    assert change_of("a", long.text + "x").digest != long.digest
    assert table([THERE]).endswith("1 steps: all is there")


# -- refusals

IN_NAMESPACE = (
    'secrets is forbidden: User "slipway" cannot list resource "secrets" in API group "" '
    'in the namespace "models"'
)


def test_a_missing_right_is_printed_as_a_role_that_is_ready_to_apply() -> None:
    head, _, text = missing_rule(FORBIDDEN).partition("\n")
    role = yaml.safe_load(text)

    assert "bind it to slipway" in head
    assert role["kind"] == "ClusterRole"
    assert role["rules"] == [
        {
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "verbs": ["get", "create", "patch"],
        }
    ]
    named = yaml.safe_load(missing_rule(IN_NAMESPACE).partition("\n")[2])
    assert named["metadata"]["namespace"] == "models" and named["rules"][0]["verbs"] == ["get", "list"]
    space = 'User "u" cannot get resource "namespaces" in API group "" in the namespace "new"'
    assert yaml.safe_load(missing_rule(space).partition("\n")[2])["kind"] == "ClusterRole"
    assert missing_rule("something else") == ""


# -- the terminal

CALLS = [
    (["prepare", "no-such"], "no such cluster (no-such)"),
    (["prepare", "sandbox", "--steps", "gateways"], "no such step (sandbox: gateways)"),
]


@pytest.mark.parametrize(("arguments", "told"), CALLS)
def test_a_mistake_in_the_call_is_one_line_and_exit_status_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_a_fault_of_the_api_keeps_its_remedy() -> None:
    error = ApiError("could not apply an object", why=FORBIDDEN, remedy="x", status=403)

    def fail(_: Target) -> None:
        raise error

    step = steps.Step(id="x", title="x", look=lambda _: NEW, make=fail)
    with pytest.raises(SlipwayError) as caught:
        steps.make(target(COMPANY), step, approved=NEW.approved)
    assert "ClusterRole" in caught.value.remedy
