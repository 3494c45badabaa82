"""What plays a story of faults in virtual time."""

from pathlib import Path

import pytest

from crashkit.play import Play, play_in


@pytest.fixture(scope="session")
def attester(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a development root that every world quotes under."""
    return tmp_path_factory.mktemp("fuzz") / "attester"


@pytest.fixture
def play(attester: Path) -> Play:
    """Play a story in a new world, mend everything, let it settle, and return the truth."""
    return play_in(attester)
