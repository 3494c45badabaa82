"""The tags of a machine: whole, read back, and no stranger's."""

import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.cloud.tags import (
    ENDS_AT,
    GRANT,
    HOST_KEY,
    MAC,
    NARROW,
    OFFER,
    OWNER,
    PORT,
    SIZE,
    TOKEN,
    USER,
    OwnedTags,
    tags_of,
    token_word,
)
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.model.units import UtcMs

GCE_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


@pytest.fixture
def tags(order, settings):
    return tags_of(order, settings)


def test_what_is_written_is_read_back(order, settings, tags):
    owned = OwnedTags.read(tags, name=order.ownership.name)

    assert owned == OwnedTags(
        order.token,
        order.ownership,
        order.offer.id,
        order.access.user,
        order.access.host_key_by(settings.host_key_source),
        settings.host_key_source,
        2222,
        order.ends_at,
        order.requirements.resources,
    )


def test_the_same_order_gives_the_same_tags(order, settings, tags):
    assert tags_of(order, settings) == tags


def test_the_instance_is_the_orders(order, settings, tags):
    owned = OwnedTags.read(tags, name=order.ownership.name)
    instance = owned.instance(InstanceId("m-1"), host="127.1.2.3", started_at=UtcMs(5))

    assert (instance.token, instance.ownership, instance.offer) == (order.token, order.ownership, order.offer.id)
    assert (instance.host, instance.port, instance.user) == ("127.1.2.3", 2222, order.access.user)
    assert instance.host_key == order.access.host_key_by(instance.host_key_source)
    assert instance.host_key_source == settings.host_key_source
    assert (instance.started_at, instance.ends_at) == (5, order.ends_at)


def test_the_narrow_ones_are_gce_labels(tags):
    for name in NARROW:
        assert GCE_LABEL.fullmatch(name), name
        assert name[0].isalpha(), name
        assert GCE_LABEL.fullmatch(tags[name]), f"{name}={tags[name]}"


def test_every_tag_fits_where_clouds_keep_tags(tags):
    # EC2 allows 127 and 255 letters, Azure 512 and 256. Source: botocore's and azure-mgmt-compute's models.
    assert all(len(name) <= 127 and len(value) <= 255 for name, value in tags.items())


def test_no_tag_tells_who_has_the_key(order, tags):
    written = " ".join(tags.values())

    assert order.access.authorized_key.split()[1] not in written
    assert order.access.host_key_private not in written


@given(token=st.binary(min_size=32, max_size=32))
def test_a_token_is_one_word_and_no_other(token):
    word = token_word(Token(token))

    assert re.fullmatch(r"[a-z2-7]{52}", word)
    assert len(word) == len(token_word(Token(bytes(32))))


@pytest.mark.parametrize("name", [TOKEN, GRANT, MAC, OFFER, USER, HOST_KEY, PORT, ENDS_AT, SIZE])
def test_tags_that_are_not_whole_are_not_ours(order, tags, name):
    del tags[name]

    with pytest.raises(RecordError, match=name):
        OwnedTags.read(tags, name=order.ownership.name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (TOKEN, "A" * 52),
        (TOKEN, "a" * 50),
        (TOKEN, "1" * 52),
        (TOKEN, "a" * 51 + "b"),
        (GRANT, ""),
        (MAC, "é" * 52),
        (OFFER, ""),
        (USER, "x" * 33),
        (HOST_KEY, "short"),
        (PORT, "0"),
        (PORT, "65536"),
        (PORT, "+22"),
        (PORT, "2_2"),
        (ENDS_AT, "0"),
        (ENDS_AT, "soon"),
        (SIZE, "1-2-3"),
        (SIZE, "1-2-3-4-5"),
        (SIZE, "0-2-3-4"),
        (SIZE, "01-2-3-4"),
    ],
)
def test_what_we_would_not_write_is_not_ours(order, tags, name, value):
    with pytest.raises(RecordError, match="not ours"):
        OwnedTags.read({**tags, name: value}, name=order.ownership.name)


def test_a_name_that_is_none_of_ours_is_refused(tags):
    with pytest.raises(RecordError, match="not ours"):
        OwnedTags.read(tags, name="Not A Label")


def test_more_tags_than_ours_do_not_matter(order, tags):
    assert OwnedTags.read({**tags, "team": "red"}, name=order.ownership.name).token == order.token


def test_the_owner_is_the_operators_word(order, settings):
    assert tags_of(order, evolve(settings, owner="me"))[OWNER] == "me"
