"""Whatever is killed in the middle of a change: the new release serves, or the last good one; never both, never none.

Fifty rounds in `make test-full` (`CHAOS_ROUNDS=…` for another number, `SEED=…` for others), three in `make test`. What
each round does is drawn from the seed and its number; finished rounds are kept in `chaos/` of the sandbox's home and
are not played again, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from sandbox.settings import load
from tests.e2e.chaos import CHANGES, VICTIMS, Results, draw, play, recover
from tests.e2e.small import Small

pytestmark = pytest.mark.e2e

SEED = os.environ.get("SEED", "1")
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "50"))
IN_MAKE_TEST = (9, 5, 10)


def numbers() -> list[object]:
    return [
        *IN_MAKE_TEST,
        *(
            pytest.param(number, marks=pytest.mark.full)
            for number in range(1, ROUNDS + 1)
            if number not in IN_MAKE_TEST
        ),
    ]


@pytest.fixture(scope="module")
def chaos(make_small: Callable[[str], Small]) -> Small:
    """The endpoint of all rounds."""
    return make_small("small-chaos")


@pytest.mark.parametrize("number", numbers())
def test_a_killed_part_leaves_the_new_release_or_the_last_good_one(number: int, chaos: Small) -> None:
    config = load()
    results = Results(config, SEED)
    result = results.of(number)
    if result is None:
        recover(chaos, config)
        result = play(draw(SEED, number), chaos, config)
        results.keep(result)
    print(
        f"{result.drawn}\n  killed {result.killed}\n  run {result.run}, release {result.release} ({result.reason})"
    )
    print(f"  {result.outcome} after {result.seconds} s")
    assert not result.wrong, f"{result.wrong}; kept in {results.file}"


def test_each_victim_has_its_turn_and_the_seed_decides_the_rest() -> None:
    rounds = [draw("1", number) for number in range(1, 51)]
    assert rounds == [draw("1", number) for number in range(1, 51)] != [draw("2", n) for n in range(1, 51)]
    assert {one.victim for one in rounds[: len(VICTIMS)]} == set(VICTIMS)
    assert {one.change for one in rounds} == set(CHANGES)
