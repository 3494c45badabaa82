"""A table that cannot be kept is refused, in words that name the mend."""

from typing import Any

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.model.resources import Region
from compute_bridge_aws.config import DEFAULT_CHAIN, AwsRegion
from compute_bridge_aws.testing.world import config, region

EU = region("eu-west-1")


def test_keys_or_the_words_and_never_both():
    nothing = SecretRef("")
    token: dict[str, Any] = {
        "access_key_id": nothing,
        "secret_access_key": nothing,
        "session_token": SecretRef("env:T"),
    }
    with pytest.raises(ValueError, match=r"not both: leave out access_key_id and secret_access_key$"):
        evolve(config(), session_token=nothing, default_chain=DEFAULT_CHAIN)
    with pytest.raises(ValueError, match="not both: leave out session_token"):
        evolve(config(), **token, default_chain=DEFAULT_CHAIN)
    with pytest.raises(ValueError, match=f'default_chain must be exactly "{DEFAULT_CHAIN}"'):
        evolve(config(), default_chain="default")


@pytest.mark.parametrize("missing", ["access_key_id", "secret_access_key"])
def test_half_a_key_is_told_by_the_half_that_is_missing(missing: str):
    half: dict[str, Any] = {missing: SecretRef("")}
    with pytest.raises(ValueError, match=f"^{missing} must be given$"):
        evolve(config(), **half)


def test_a_table_without_an_identity_is_told_both_ways():
    nothing = SecretRef("")
    words = f'^access_key_id and secret_access_key must be given, or say default_chain = "{DEFAULT_CHAIN}"$'
    with pytest.raises(ValueError, match=words):
        evolve(config(), access_key_id=nothing, secret_access_key=nothing, session_token=nothing)


def test_the_words_alone_are_taken():
    nothing = SecretRef("")
    chained = evolve(
        config(), access_key_id=nothing, secret_access_key=nothing, session_token=nothing, default_chain=DEFAULT_CHAIN
    )

    assert chained.default_chain == DEFAULT_CHAIN


@pytest.mark.parametrize("account", ["", "12345678901", "1234567890123", "12345678901x"])
def test_an_account_is_twelve_digits(account: str):
    with pytest.raises(ValueError, match="is not an account id of 12 digits"):
        evolve(config(), account_id=account)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": Region("Frankfurt")}, "is not the name of a region"),
        ({"subnets": {}}, "subnets must name 1 to 64 of them"),
        ({"subnets": {"eu-west-1a": "vpc-1"}}, "is not a zone and its subnet"),
        ({"subnets": {"us-east-2a": "subnet-00000001"}}, "zone us-east-2a is not in region eu-west-1"),
        ({"images": {"debian": "debian-12"}}, "is not a name and its image"),
    ],
)
def test_a_region_is_held_to_what_aws_calls_things(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        evolve(EU, **changes)


def test_every_region_maps_the_same_names():
    other = AwsRegion(
        name=Region("us-east-2"), subnets={"us-east-2a": "subnet-00000001"}, images={"ubuntu": "ami-00000001"}
    )
    with pytest.raises(ValueError, match="eu-west-1 and us-east-2 name different images"):
        evolve(config(), regions=(EU, other))


def test_a_region_stands_once():
    with pytest.raises(ValueError, match="two regions are called eu-west-1"):
        evolve(config(), regions=(EU, EU))


def test_no_secret_is_in_a_table_s_repr():
    assert "env:SECRET" in repr(config())


@pytest.mark.parametrize("key", [{"volume_type": "io2"}, {"kms_key": "alias/mine"}, {"kms_key": "1234abcd"}])
def test_what_the_price_or_the_policy_would_not_hold_is_refused(key: dict[str, Any]):
    with pytest.raises(ValueError, match="is not"):
        evolve(config(), **key)
