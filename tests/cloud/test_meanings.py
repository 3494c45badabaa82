"""What a cloud's code means: by the code alone."""

from typing import Any

import pytest

from compute_bridge.cloud.meanings import Meaning, Meanings
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.errors import (
    CredentialsError,
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
)

TOY = BackendName("toy")
MEANINGS = Meanings(
    {
        "full": Meaning(NoCapacityError, "try another", Scope.ZONE),
        "quota": Meaning(QuotaError, "ask for more", Scope.ACCOUNT),
        "auth": Meaning(CredentialsError, "look at the key"),
        "busy": Meaning(ThrottledError, "wait"),
        "plain": Meaning(NoCapacityError, "try another"),
    }
)


def mean(code, **told) -> Any:
    return MEANINGS.error(TOY, "create a machine", code, **told)


def test_the_message_names_backend_doing_place_code_and_mend():
    error = mean("full", place="north-a")

    assert str(error) == "backend toy: cannot create a machine in north-a: full: try another"


@pytest.mark.parametrize(
    ("code", "kind", "scope"), [("full", NoCapacityError, Scope.ZONE), ("quota", QuotaError, Scope.ACCOUNT)]
)
def test_a_scope_is_the_tables(code, kind, scope):
    error = mean(code)

    assert type(error) is kind
    assert error.scope is scope


def test_a_scope_that_the_table_leaves_out_is_the_narrowest():
    assert mean("plain").scope is Scope.OFFER


@pytest.mark.parametrize(("told", "wait"), [(7.0, 7.0), (None, 5.0), (0.0, 5.0)])
def test_a_wait_is_what_the_cloud_told_or_some(told, wait):
    assert mean("busy", retry_after_s=told).retry_after_s == wait


def test_an_unknown_code_is_no_answer_at_all():
    error = mean("E1234")

    assert type(error) is UnavailableError
    assert "E1234" in str(error)
    assert not MEANINGS.knows("E1234")


def test_a_known_code_is_known():
    assert MEANINGS.knows("auth")
    assert type(mean("auth")) is CredentialsError
