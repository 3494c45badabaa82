"""The crash matrix has teeth: a bridge with a fault planted in it turns the right invariant red."""

import shutil

import pytest

from crashkit.matrix import open_matrix
from crashkit.plants import PLANTS
from crashkit.schedule import Plan


@pytest.fixture(scope="module")
def verdicts():
    plans = [Plan.parse(plant.plan.replace("|", f"+{name}|", 1)) for name, plant in PLANTS.items()]
    with open_matrix(keep=True) as matrix:
        found = dict(zip(PLANTS, matrix.play(plans), strict=True))
    # They went wrong, as they should: nobody wants their files.
    shutil.rmtree(matrix.folder)
    return found


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_turns_its_invariant_red(verdicts, name):
    assert any(violation.startswith(PLANTS[name].turns_red) for violation in verdicts[name].violations)
