"""What the headers of throttling say, and what follows from it."""

import pytest

from compute_bridge_azure.budget import Budget

OLD = "Microsoft.Compute/PutVM3Min;239,Microsoft.Compute/PutVM30Min;1199"
NEW = "Microsoft.Compute/UpdateVMSubscriptionMaximum;1498,Microsoft.Compute/UpdateVMResource;10"


def heard(**headers):
    budget = Budget()
    budget.hear({f"x-ms-ratelimit-remaining-{name.replace('_', '-')}": value for name, value in headers.items()})
    return budget


def test_both_styles_are_read():
    assert heard(resource=OLD).left == {"PutVM3Min": 239, "PutVM30Min": 1199}
    assert heard(resource=NEW).left == {"UpdateVMSubscriptionMaximum": 1498}
    assert heard(subscription_writes="1176", subscription_deletes="14988").left == {"writes": 1176, "deletes": 14988}


@pytest.mark.parametrize("told", ["", ";", "PutVM3Min", "PutVM3Min;many", ",,,"])
def test_what_is_not_understood_is_left_out(told):
    assert heard(resource=told).left == {}


@pytest.mark.parametrize(("left", "at_once"), [("239", 8), ("50", 8), ("49", 4), ("10", 4), ("9", 1), ("0", 1)])
def test_fewer_calls_run_together_as_a_limit_runs_low(left, at_once):
    assert heard(resource=f"Microsoft.Compute/PutVM3Min;{left}").at_once(8) == at_once


def test_one_machines_own_limit_slows_nobody():
    assert heard(resource="Microsoft.Compute/UpdateVMResource;2").at_once(8) == 8


def test_the_last_word_counts():
    budget = heard(resource="Microsoft.Compute/PutVM3Min;3")
    budget.hear({"x-ms-ratelimit-remaining-resource": "Microsoft.Compute/PutVM3Min;200"})

    assert budget.at_once(8) == 8


@pytest.mark.anyio
async def test_the_headers_of_every_answer_are_heard(bare):
    bare.arm.headers = {"x-ms-ratelimit-remaining-resource": "Microsoft.Compute/HighCostGet3Min;5"}
    async with bare.open() as backend:
        await backend.list_owned()

        assert backend.cloud.budget.left == {"HighCostGet3Min": 5}
        assert backend.cloud._calls._limiter.total_tokens == 1
        bare.arm.headers = {"x-ms-ratelimit-remaining-resource": "Microsoft.Compute/HighCostGet3Min;140"}
        await backend.list_owned()

        assert backend.cloud._calls._limiter.total_tokens == bare.config.calls_at_once
