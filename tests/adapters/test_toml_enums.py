from enum import StrEnum

import pytest
from attrs import frozen

from compute_bridge.adapters.strict_toml import structure
from compute_bridge.adapters.toml_scalars import FaultyError


class Word(StrEnum):
    A = "a"


@frozen
class Table:
    word: Word = Word.A
    words: tuple[Word, ...] = ()
    choice: Word | None = None


def test_text_becomes_the_member_of_an_enum_of_text():
    table = structure({"word": "a", "words": ["a"], "choice": "a"}, Table, key="t", folder=None)

    assert table.word is Word.A
    assert table.words[0] is Word.A
    assert table.choice is Word.A


@pytest.mark.parametrize("table", [{"word": "b"}, {"words": ["b"]}, {"choice": "b"}])
def test_text_that_is_no_member_is_a_fault(table: dict[str, object]):
    with pytest.raises(FaultyError):
        structure(table, Table, key="t", folder=None)
