"""The direct shuffle carries envelopes in and replies out, bounded and in order."""

from contextlib import aclosing

import anyio
import pytest
from blake3 import blake3

from compute_bridge.adapters.direct_shuffle import DirectShuffle
from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.ports.errors import NetworkError, RecordTooLargeError
from compute_bridge.ports.network import Entry
from compute_bridge.ports.shuffle import MAX_CANDIDATES, ShuffleFullError
from compute_bridge.testing.network_world import take

pytestmark = pytest.mark.anyio

POINTER = bytes(range(32))


@pytest.fixture
def network():
    return MemoryNetwork(max_record_bytes=100)


@pytest.fixture
def shuffle(network):
    return DirectShuffle(network)


async def test_it_says_that_it_hides_nothing(shuffle):
    assert (shuffle.name, shuffle.anonymity) == ("direct", "none")


async def test_an_envelope_is_a_record_named_by_its_hash(shuffle, network):
    await shuffle.post(POINTER, b"sealed")

    expected = Entry(1, blake3(b"sealed").digest(), b"sealed")
    assert await network.fetch(f"shuffle/envelopes/{POINTER.hex()}") == (expected,)


async def test_candidates_come_in_the_order_of_their_posting(shuffle):
    await shuffle.post(POINTER, b"first")
    await shuffle.post(POINTER, b"second")
    async with aclosing(shuffle.resolve(POINTER)) as candidates:
        assert await take(candidates, 2) == [b"first", b"second"]


async def test_resolving_waits_for_an_envelope(shuffle):
    async with aclosing(shuffle.resolve(POINTER)) as candidates, anyio.create_task_group() as group:
        group.start_soon(shuffle.post, POINTER, b"late")
        with anyio.fail_after(60):
            assert await anext(candidates) == b"late"


async def test_an_envelope_posted_twice_is_one_candidate(shuffle, network):
    await shuffle.post(POINTER, b"sealed")
    await shuffle.post(POINTER, b"sealed")

    assert await network.tail(f"shuffle/envelopes/{POINTER.hex()}") == 1


async def test_resolving_ends_after_the_last_candidate(shuffle):
    for number in range(MAX_CANDIDATES):
        await shuffle.post(POINTER, b"%d" % number)
    with anyio.fail_after(60):
        got = [sealed async for sealed in shuffle.resolve(POINTER)]

    assert got == [b"%d" % number for number in range(MAX_CANDIDATES)]


async def test_a_full_pointer_refuses_more_but_knows_its_own(shuffle):
    for number in range(MAX_CANDIDATES):
        await shuffle.post(POINTER, b"%d" % number)
    await shuffle.post(POINTER, b"3")

    with pytest.raises(ShuffleFullError, match="ask again under another pointer"):
        await shuffle.post(POINTER, b"one too many")


async def test_posting_at_once_never_overfills_a_pointer(shuffle, network):
    refused = []

    async def post(number):
        try:
            await shuffle.post(POINTER, b"%d" % number)
        except ShuffleFullError:
            refused.append(number)

    async with anyio.create_task_group() as group:
        for number in range(MAX_CANDIDATES + 5):
            group.start_soon(post, number)

    assert len(refused) == 5
    assert await network.tail(f"shuffle/envelopes/{POINTER.hex()}") == MAX_CANDIDATES


async def test_replies_come_in_order_and_once(shuffle):
    for sealed in (b"receipt", b"receipt", b"renewed"):
        await shuffle.reply(POINTER, sealed)
    async with aclosing(shuffle.collect(POINTER)) as replies, anyio.create_task_group() as group:
        assert await take(replies, 2) == [b"receipt", b"renewed"]
        group.start_soon(shuffle.reply, POINTER, b"last")
        with anyio.fail_after(60):
            assert await anext(replies) == b"last"


async def test_pointers_share_nothing(shuffle):
    await shuffle.post(bytes(16), b"other")
    await shuffle.reply(POINTER, b"reply")
    await shuffle.post(POINTER, b"mine")
    async with aclosing(shuffle.resolve(POINTER)) as candidates:
        assert await anext(candidates) == b"mine"


async def test_what_the_network_cannot_carry_is_refused(shuffle):
    with pytest.raises(RecordTooLargeError):
        await shuffle.post(POINTER, bytes(101))
    with pytest.raises(NetworkError):
        await shuffle.reply(POINTER, bytes(101))


@pytest.mark.parametrize("length", [0, 15, 33])
async def test_a_pointer_has_16_to_32_bytes(shuffle, length):
    for call in (shuffle.post, shuffle.reply):
        with pytest.raises(ValueError, match=f"bearer pointer of {length} bytes"):
            await call(bytes(length), b"sealed")
    for generate in (shuffle.resolve, shuffle.collect):
        with pytest.raises(ValueError, match=f"bearer pointer of {length} bytes"):
            generate(bytes(length))
