"""Several questions at once: all have to be answered, or as many as are."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from anyio.lowlevel import checkpoint

from compute_bridge.cloud.every import answers, every
from compute_bridge.ports.errors import BackendError, CredentialsError, UnavailableError

pytestmark = pytest.mark.anyio

Ask = Callable[[], Awaitable[None]]


async def test_each_answer_stands_under_its_name():
    async def answer(number: int) -> int:
        return number

    assert {"a": 1, "b": 2} == await every({"a": partial(answer, 1), "b": partial(answer, 2)})


async def test_the_first_failure_leaves_alone_and_only_when_all_have_come_back():
    back: list[str] = []

    async def fail(error: BackendError) -> None:
        raise error

    async def late() -> None:
        await checkpoint()
        back.append("late")

    calls: dict[str, Ask] = {
        "a": partial(fail, UnavailableError("a is silent")),
        "b": late,
        "c": partial(fail, CredentialsError("c refuses us")),
    }
    with pytest.raises(UnavailableError, match="a is silent"):
        await every(calls)

    assert ["late"] == back


async def test_answers_and_failures_stand_side_by_side():
    silence = UnavailableError("a is silent")

    async def answer(number: int) -> int:
        if not number:
            raise silence
        return number

    assert ({"b": 2}, {"a": silence}) == await answers({"a": partial(answer, 0), "b": partial(answer, 2)})
