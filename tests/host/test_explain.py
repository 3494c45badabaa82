"""A lease's story is all in its journal: why this offer, what lost, what it cost, what is left, why it ended."""

import json
import re
import socket
import threading
from pathlib import Path

import anyio.to_thread
import pytest
from attrs import asdict, evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.host.explain import UnknownIdError, explain
from compute_bridge.host.lease_state import (
    AttemptFailed,
    Ended,
    Ending,
    Granted,
    LeaseState,
    Metered,
    Opened,
    ProvisionIntended,
    Resumed,
    Routed,
    Running,
    Settled,
    draft,
)
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import (
    BackendName,
    BandName,
    Fingerprint,
    GrantId,
    InstanceId,
    OfferId,
    ProviderId,
    PublicKey,
    RequestId,
    Token,
    UniqueId,
)
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Requirements, Resources, Zone
from compute_bridge.model.units import HOUR_MS, BasisPoints, MicrosPerHour, Milliseconds, NanosPerHour, Tick, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import HostKeySource, Instance, Offer, Ownership
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire import codec
from compute_bridge.wire.signing import Domain, public_key, sign
from crashkit.boot_text import BOOT_TEXT

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "operator" / "explain.md"
START = 1_767_225_600_000
MODULE = Ed25519PrivateKey.from_private_bytes(b"m" * 32)
DOMAIN = Domain(UniqueId(b"c" * 32), UniqueId(b"d" * 32))
GRANT = ComputeGrant(
    id=GrantId(b"\xab" * 32),
    request_id=RequestId(b"\xcd" * 32),
    request_key=PublicKey(b"k" * 32),
    provider_id=ProviderId(b"p" * 32),
    card_hash=Fingerprint(b"c" * 32),
    round=7,
    requirements=Requirements(Resources(1000, 1024), Milliseconds(HOUR_MS)),
    region=Region("eu"),
    posture=Posture.NONE,
    band=BandName("small"),
    manifest_commitment=b"m" * 32,
    envelope_commitment=b"e" * 32,
    bearer_pointer=b"b" * 32,
    rate=MicrosPerHour(10_000),
    currency="EUR",
    valid_from=Tick(1),
    valid_to=Tick(9),
    duration_ms=Milliseconds(HOUR_MS),
)


def offer(name, backend, micros, source):
    units = UnitNanos(machine=NanosPerHour(micros * 1000 - 1000))
    return Offer(
        id=OfferId(name),
        backend=BackendName(backend),
        region=Region("eu"),
        zone=Zone("a"),
        shape="shape",
        resources=Resources(4000, 8192),
        posture=Posture.NONE,
        networks=(NetworkPolicy.ISOLATED,),
        cost=CostBasis("EUR", units, UtcMs(START), source, NanosPerHour(1000)),
    )


CLOUD, RACK = offer("c-4", "cloud", 5000, "catalogue"), offer("r1", "rack", 6000, "boot-file")


def intended(attempt, one):
    token = Token(bytes([attempt]) * 32)
    return ProvisionIntended(token, one.backend, codec.encode(one), attempt, UtcMs(START + 2 * HOUR_MS))


def running(attempt, one):
    instance = Instance(
        id=InstanceId("i-1"),
        token=Token(bytes([attempt]) * 32),
        ownership=Ownership("cb-1", b"g" * 32, b"m" * 32),
        offer=one.id,
        host="192.0.2.7",
        port=22,
        user="user",
        host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
        host_key_source=HostKeySource.INJECTED,
        started_at=UtcMs(START + 5000),
        ends_at=UtcMs(START + 2 * HOUR_MS),
    )
    return Running(instance, one.backend)


def granted(grant=GRANT, key=MODULE):
    return draft(grant.id, Granted(sign(grant, key, domain=DOMAIN).raw, b"n" * 16), state=LeaseState.GRANTED)


def ended(reason=Reason.DEADLINE, billable=HOUR_MS, outcome="served", evidence=Reason.END_RECORDED):
    at = UtcMs(START + 5000 + billable)
    return Ended(outcome, reason, "", at, Milliseconds(billable), UsageMetrics(), evidence)


STEPS = (
    "no-capacity cloud/c-4: backend cloud: no capacity for c-4 in eu-a",
    "routed rack/r1: costs 6000 micros/h, cleared at 10000",
    "outbid rack/r2: costs 7000 micros/h; others came first",
    "cost-stale cloud/c-8: observed 90000 s ago, more than rate.cost_max_age_s = 86400",
    "shape cloud: 12 of its offers cannot serve it",
)
S = LeaseState


def of(body, state=None, **more):
    return draft(GRANT.id, body, state=state, **more)


TALE = (
    (0, granted()),
    (1, of(Opened(b"sealed"), S.OPENED)),
    (2, of(intended(0, CLOUD), S.PROVISIONING)),
    (2, of(intended(0, CLOUD), kind="terminate-intended")),
    (3, of(AttemptFailed(Token(bytes(32)), Reason.NO_CAPACITY, "backend cloud: no capacity for c-4 in eu-a"))),
    (4, of(intended(1, RACK), S.PROVISIONING)),
    (4, of(intended(1, RACK), kind="terminate-intended")),
    (5, of(Routed(STEPS))),
    (5, of(running(1, RACK), S.RUNNING)),
    (1800, of(Resumed("running"))),
    (3605, of(Ending(Reason.DEADLINE), S.ENDING)),
    (3606, of(ended(), S.ENDED)),
    (3607, of(Settled(Reason.CHARGED), S.SETTLED)),
)


@pytest.fixture
def clock():
    return VirtualClock(utc_ms=START)


@pytest.fixture
async def journal(tmp_path, clock):
    async with open_sqlite_journal(tmp_path / "journal", clock, create=True) as opened:
        yield opened


async def write(journal, clock, *tale):
    for second, event in tale:
        await clock.advance(START + 1000 * second - clock.utc_ms())
        await journal.record(event)


async def told(journal, prefix="abab", fee=BasisPoints(250)):
    return await explain(journal, prefix, domain=DOMAIN, module_key=public_key(MODULE), provider_fee=fee)


# --- the page -------------------------------------------------------------------------------------


def ask_the_command(path, answer):
    """Run the command while somebody answers one question on the control socket as a bridge would."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=reply, daemon=True)
        thread.start()
        code = dispatch(["explain", "abab"])
        thread.join(5)
    return code


async def test_the_page_shows_the_story_of_this_journal(journal, clock, tmp_path, monkeypatch, capsys):
    await write(journal, clock, *TALE)
    stories = [asdict(story) for story in await told(journal)]
    (tmp_path / "bridge.toml").write_text(BOOT_TEXT)
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    code = await anyio.to_thread.run_sync(ask_the_command, tmp_path / "state" / "control.sock", {"stories": stories})

    example = PAGE.read_text().partition("explain abab\n")[2].partition("```")[0]
    assert (Exit.OK, example) == (code, capsys.readouterr().out)


async def test_the_page_names_every_key(journal, clock):
    await write(journal, clock, *TALE)
    (story,) = await told(journal)
    keys = set(asdict(story)) | set(asdict(story.money)) | set(asdict(story.money.basis)) | set(asdict(story.lines[0]))
    named = {word.rpartition(".")[2].removesuffix("[]") for word in re.findall(r"`([a-z_.\[\]]+)`", PAGE.read_text())}

    assert keys <= named


# --- finding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["abab", "ab" * 32, "cdcd", "cdcdc", "cd" * 32])
async def test_a_lease_is_found_by_grant_and_by_request(journal, clock, prefix):
    await write(journal, clock, *TALE)

    assert [GRANT.id.hex()] == [story.grant_id for story in await told(journal, prefix)]


@pytest.mark.parametrize("prefix", ["abac", "ab", "cdce", "zzzz", "6d6d6d6d"])
async def test_an_id_that_nothing_has_is_an_error(journal, clock, prefix):
    await write(journal, clock, *TALE)
    with pytest.raises(UnknownIdError):
        await told(journal, prefix)


async def test_one_lease_is_found_among_thousands(journal):
    others = [evolve(GRANT, id=GrantId(at.to_bytes(32, "big")), request_id=RequestId(bytes(32))) for at in range(2500)]
    await journal.record(*(granted(one) for one in others))
    await journal.record(granted())

    assert [GRANT.id.hex()] == [story.grant_id for story in await told(journal, "cdcd")]


# --- money, which nothing changes afterwards ------------------------------------------------------


async def test_the_money_is_that_of_the_offer_that_served(journal, clock):
    await write(journal, clock, *TALE)
    money = (await told(journal))[0].money

    assert (10_000, 250, 6000, 3750) == (money.charge, money.market_fee, money.cost, money.margin)
    assert ("rack", "r1", 1000, START) == (
        money.basis.backend,
        money.basis.offer,
        money.basis.address,
        money.basis.observed_at,
    )


async def test_a_lease_that_runs_has_a_basis_and_no_charge_yet(journal, clock):
    await write(journal, clock, *TALE[:9])
    money = (await told(journal))[0].money

    assert (None, None, None, "r1") == (money.charge, money.cost, money.margin, money.basis.offer)


async def test_a_lease_without_a_machine_cost_nothing(journal, clock):
    refused = ended(Reason.ABOVE_CLEARED_RATE, 0, "refused", None)
    await write(journal, clock, *TALE[:5], (6, of(refused, S.ENDED)))
    money = (await told(journal))[0].money

    assert (0, None, None) == (money.charge, money.cost, money.basis)


async def test_without_the_market_s_fee_no_margin_is_claimed(journal, clock):
    await write(journal, clock, *TALE)
    money = (await told(journal, fee=None))[0].money

    assert (10_000, None, None) == (money.charge, money.market_fee, money.margin)


async def test_a_cost_in_another_currency_is_not_taken_off(journal, clock):
    dollars = evolve(RACK, cost=evolve(RACK.cost, currency="USD"))
    event = of(intended(1, dollars), S.PROVISIONING)
    await write(journal, clock, *TALE[:5], (4, event), *TALE[7:])
    money = (await told(journal))[0].money

    assert ("USD", None, None) == (money.basis.currency, money.cost, money.margin)


# --- long, damaged and unknown --------------------------------------------------------------------


async def test_a_story_of_any_length_is_told_to_its_end(journal, clock):
    checkpoint = of(Metered(UsageMetrics()))
    await write(journal, clock, *TALE[:9])
    for _ in range(3):
        await journal.record(*[checkpoint] * 900)
    await write(journal, clock, *TALE[9:])
    (story,) = await told(journal)

    assert ("settled", 1) == (story.state, [line.event for line in story.lines].count("metered"))
    assert 10_000 == story.money.charge


@pytest.mark.parametrize("damaged", range(1, len(TALE)))
async def test_one_damaged_event_hides_no_other(journal, clock, damaged):
    tale = list(TALE)
    tale[damaged] = (TALE[damaged][0], evolve(TALE[damaged][1], body=b"\xff"))
    await write(journal, clock, *tale)
    (story,) = await told(journal)
    others = [event.kind for at, (_, event) in enumerate(TALE) if at != damaged and event.kind != "terminate-intended"]

    assert set(others) <= {line.event for line in story.lines}
    assert story.state == "settled"
    if TALE[damaged][1].kind != "terminate-intended":
        assert 1 == sum("body cannot be read" in line.text for line in story.lines)


async def test_a_lease_whose_grant_cannot_be_read_is_told_by_its_id(journal, clock):
    await write(journal, clock, (0, evolve(granted(), body=b"\xff")), *TALE[1:])
    (story,) = await told(journal)

    assert (GRANT.id.hex(), "", None) == (story.grant_id, story.request_id, story.money)
    assert "deadline" in [line.reason for line in story.lines]


async def test_a_grant_that_the_module_has_not_signed_is_told_as_such(journal, clock):
    await write(journal, clock, (0, granted(key=Ed25519PrivateKey.from_private_bytes(b"x" * 32))), *TALE[1:])
    (story,) = await told(journal)

    assert "not signed by the module" in story.lines[0].text
    assert story.money is None


async def test_an_event_of_a_later_release_is_told_as_such(journal, clock):
    await write(journal, clock, *TALE, (3608, EventDraft("teleported", GRANT.id, b"\x01")))
    (story,) = await told(journal)

    assert ("teleported", "an event that this release does not know") == (story.lines[-1].event, story.lines[-1].text)
