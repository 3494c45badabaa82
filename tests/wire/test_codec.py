"""The converter: one value has one encoding, and no other bytes decode to it."""

import cbor2
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.errors import RecordError
from compute_bridge.model.units import Tick
from compute_bridge.wire import codec
from compute_bridge.wire.records import RECORDS, kind_of

KINDS = {kind.name: kind for kind in RECORDS}


@frozen
class Inner:
    flag: bool
    text: str


@frozen
class Sample:
    number: int
    raw: bytes
    many: tuple[Inner, ...]
    maybe: Inner | None


SAMPLE = Sample(7, b"\1\2", (Inner(True, "a"), Inner(False, "β")), None)
RAW = codec.encode(SAMPLE)
PLAIN = {
    "number": 7,
    "raw": b"\1\2",
    "many": [{"flag": True, "text": "a"}, {"flag": False, "text": "β"}],
    "maybe": None,
}


def refused(raw: bytes, cls: type = Sample, max_bytes: int = 10_000) -> str:
    with pytest.raises(RecordError) as caught:
        codec.decode(raw, cls, max_bytes=max_bytes)
    return str(caught.value)


def with_(**changes: object) -> bytes:
    return codec.dump(PLAIN | changes)


# --- round trips --------------------------------------------------------------------------------------


def test_a_value_comes_back_as_it_was():
    assert SAMPLE == codec.decode(RAW, Sample, max_bytes=len(RAW))


def test_a_value_is_a_map_of_all_its_fields():
    assert PLAIN == codec.load(RAW, max_bytes=len(RAW))


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=30), inner, max_size=4),
    max_leaves=12,
)


@given(_PLAIN)
def test_plain_data_comes_back_as_it_was(data):
    raw = codec.dump(data)

    assert data == codec.load(raw, max_bytes=len(raw))


@given(st.dictionaries(st.text(max_size=40), st.none(), min_size=2, max_size=6))
def test_the_order_of_a_map_does_not_show(data):
    assert codec.dump(data) == codec.dump(dict(reversed(data.items())))


def test_keys_stand_in_bytewise_order_of_their_encodings():
    keys = ["b" * 300, "b", "aa", "a", "c" * 24, "c" * 23, ""]
    raw = codec.dump(dict.fromkeys(keys))
    encoded = [cbor2.dumps(key) for key in codec.load(raw, max_bytes=len(raw))]

    assert sorted(encoded) == encoded


# --- every record kind, attacked byte by byte ------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_byte_is_refused_or_is_another_value_with_that_one_encoding(golden, name):
    kind, payload = KINDS[name], bytes.fromhex(golden(name)["payload"])
    # Some thousand changes are enough for the long ones: every byte of the rest.
    step = max(1, len(payload) // 400)
    for at in range(0, len(payload), step):
        for bit in (0x01, 0x20, 0x80):
            changed = payload[:at] + bytes([payload[at] ^ bit]) + payload[at + 1 :]
            try:
                value = codec.decode(changed, kind.cls, max_bytes=kind.max_bytes)
            except RecordError:
                continue
            assert changed == codec.encode(value)


@pytest.mark.parametrize("name", KINDS)
def test_no_record_can_be_cut_short(golden, name):
    kind, payload = KINDS[name], bytes.fromhex(golden(name)["payload"])
    for length in {*range(min(64, len(payload))), len(payload) // 2, len(payload) - 1}:
        refused(payload[:length], kind.cls)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("tail", [b"\0", b"\xf6", b"\xff", b"\xa0"])
def test_nothing_can_follow_a_record(golden, name, tail):
    refused(bytes.fromhex(golden(name)["payload"]) + tail, KINDS[name].cls, 10**6)


@pytest.mark.parametrize("name", KINDS)
def test_a_record_beyond_its_bound_is_refused_by_its_size_alone(name):
    kind = KINDS[name]

    assert "exceeds the limit" in refused(b"\xff" * (kind.max_bytes + 1), kind.cls, kind.max_bytes)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_decode_or_be_refused(raw):
    try:
        value = codec.decode(raw, Sample, max_bytes=200)
    except RecordError:
        return
    assert raw == codec.encode(value)


# --- what is not deterministic CBOR ------------------------------------------------------------------------

NOT_DETERMINISTIC = {
    "a key twice": "a2616101616102",
    "keys out of order": "a2616201616102",
    "an indefinite map": "bf616101ff",
    "an indefinite array": "9f01ff",
    "an indefinite string": "7f6161ff",
    "indefinite bytes": "5f4101ff",
    "a number in more bytes than it needs": "1801",
    "a number in two bytes more": "190001",
    "a length in more bytes than it needs": "580101",
    "a key's length in more bytes than it needs": "a178016101",
    "half a float": "f90000",
    "a float": "fb3ff0000000000000",
    "not a number": "f97e00",
    "undefined": "f7",
    "a simple value": "f0",
    "a tag of a date": "c074323032302d30312d30315430303a30303a30305a",
    "a tag of a big number": "c249010000000000000000",
    "a big number within range": "c24101",
    "a negative big number": "c349010000000000000000",
    "a negative number beyond 64 bits": "3bffffffffffffffff",
    "a tag of self-described CBOR": "d9d9f700",
    "a tag of a shared value": "d81c80",
    "a tag of a shared reference": "d81d00",
    "a tag of a set": "d9010280",
    "a key that is a number": "a10101",
    "a key that is bytes": "a1416101",
    "a key that is an array": "a18001",
    "text that is not UTF-8": "61ff",
    "a surrogate": "63eda080",
    "a reserved head": "1c",
    "a break alone": "ff",
    "nothing": "",
    "two items": "0101",
}


@pytest.mark.parametrize("text", NOT_DETERMINISTIC.values(), ids=NOT_DETERMINISTIC.keys())
def test_what_is_not_deterministic_is_refused(text):
    with pytest.raises(RecordError):
        codec.load(bytes.fromhex(text), max_bytes=1000)


@pytest.mark.parametrize("head", ["81", "a16161"])
def test_depth_is_bounded(head):
    one = bytes.fromhex(head)
    codec.load(one * (codec.MAX_DEPTH - 1) + b"\0", max_bytes=10**6)
    for depth in (codec.MAX_DEPTH + 2, 100_000):
        with pytest.raises(RecordError):
            codec.load(one * depth + b"\0", max_bytes=10**6)


@pytest.mark.parametrize("head", ["5affffffff", "7b7fffffffffffffff", "9affffffff", "bb7fffffffffffffff"])
def test_a_length_that_lies_allocates_nothing(head):
    with pytest.raises(RecordError):
        codec.load(bytes.fromhex(head), max_bytes=1000)


# --- what is not the value ---------------------------------------------------------------------------------


def test_a_missing_field_is_named():
    assert "field 'raw' is missing" in refused(codec.dump({key: PLAIN[key] for key in PLAIN if key != "raw"}))


def test_an_unknown_field_is_refused():
    refused(with_(extra=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"number": True},
        {"number": "7"},
        {"number": None},
        {"number": b"7"},
        {"raw": "text"},
        {"raw": None},
        {"many": None},
        {"many": {}},
        {"many": "ab"},
        {"many": [None]},
        {"many": [{"flag": 1, "text": "a"}]},
        {"many": [{"flag": True, "text": b"a"}]},
        {"many": [{"flag": True}]},
        {"maybe": 0},
        {"maybe": []},
        {"maybe": False},
    ],
    ids=str,
)
def test_nothing_is_converted_into_what_a_field_wants(changes):
    refused(with_(**changes))


@pytest.mark.parametrize("data", [None, 1, "text", b"bytes", [], [1], True])
def test_what_is_no_map_is_no_value(data):
    refused(codec.dump(data))


def test_a_value_that_its_class_refuses_is_refused(golden):
    kind = kind_of(KINDS["almanac-tick"].cls)
    plain = codec.load(bytes.fromhex(golden("almanac-tick")["payload"]), max_bytes=kind.max_bytes)

    assert "tick 0" in refused(codec.dump(plain | {"tick": Tick(0)}), kind.cls)


def test_an_error_tells_no_bytes_of_a_secret():
    secret = b"a secret of thirty-two bytes....!"
    text = refused(with_(number=secret))

    assert "secret" not in text
    assert secret.hex() not in text


def test_every_kind_has_a_name_of_its_own_and_a_class_of_its_own():
    assert len(RECORDS) == len(KINDS) == len({kind.cls for kind in RECORDS})


def test_what_is_no_record_kind_is_told():
    with pytest.raises(LookupError, match="Sample"):
        kind_of(Sample)


@frozen
class Later:
    first: int
    second: int = 7


def test_a_missing_field_takes_its_default_only_in_what_we_wrote_ourselves():
    old = codec.dump({"first": 1})

    assert Later(1, 7) == codec.decode(old, Later, max_bytes=99, fill=True)
    with pytest.raises(RecordError, match="field 'second' is missing"):
        codec.decode(old, Later, max_bytes=99)
    with pytest.raises(RecordError, match="field 'first' is missing"):
        codec.decode(codec.dump({"second": 1}), Later, max_bytes=99, fill=True)
