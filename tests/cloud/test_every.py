"""Several questions at once: all have to be answered."""

from functools import partial

import anyio
import pytest

from compute_bridge.cloud.every import every
from compute_bridge.ports.errors import CredentialsError, UnavailableError

pytestmark = pytest.mark.anyio


async def test_each_answer_stands_under_its_name():
    assert {"a": 1, "b": 2} == await every({"a": partial(anyio.to_thread.run_sync, lambda: 1), "b": answer_two})


async def answer_two():
    return 2


async def test_the_first_failure_leaves_alone_and_only_when_all_have_come_back():
    back = []

    async def fail(error):
        raise error

    async def late():
        await anyio.lowlevel.checkpoint()
        back.append("late")

    calls = {
        "a": partial(fail, UnavailableError("a is silent")),
        "b": late,
        "c": partial(fail, CredentialsError("c refuses us")),
    }
    with pytest.raises(UnavailableError, match="a is silent"):
        await every(calls)

    assert ["late"] == back
