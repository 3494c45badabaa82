"""What plays a story of faults in virtual time."""

from pathlib import Path

import pytest

from crashkit.play import Play, play_in


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a story in a new world, mend everything, let it settle, and return the truth."""
    return play_in(tmp_path)
