"""The toy cloud refuses what it does not take, never ignores it; and a cut says nothing."""

import json
from base64 import b64encode

import pytest

from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.toy import ZONES, ToyFacade
from compute_bridge.testing.physics.wire import Cut, Request

KEY = "k"
WANTED = {
    "token": "t",
    "name": "cb-1",
    "shape": "toy-small",
    "zone": "toy-north-a",
    "spot": False,
    "tags": {"cb-owner": "me"},
    "user_data": b64encode(b"x").decode(),
}


@pytest.fixture
def physics():
    return Physics(VirtualClock(), zones=ZONES)


@pytest.fixture
def ask(physics):
    facade = ToyFacade(physics, KEY)

    def ask(method, path, body=None, *, key=KEY):
        path, _, query = path.partition("?")
        head = {"authorization": f"Bearer {key}"}
        response = facade.answer(Request(method, path, query, head, b"" if body is None else json.dumps(body).encode()))
        return response.status, json.loads(response.body)

    return ask


def test_a_machine_is_made_listed_and_ended(ask, physics):
    status, made = ask("POST", "/machines", WANTED)
    listed = ask("GET", "/machines?owner=me")
    strangers = ask("GET", "/machines?owner=you")
    ended = ask("DELETE", f"/machines/{made['id']}")

    assert (status, made["state"], made["address"]) == (201, "pending", "")
    assert listed == (200, [made])
    assert strangers == (200, [])
    assert (ended[0], ended[1]["state"], ended[1]["why"]) == (202, "ending", "api")
    assert [disk.kind for disk in physics.leftovers()] == ["disk"]


def test_the_same_request_makes_no_second_machine(ask, physics):
    first, second = ask("POST", "/machines", WANTED), ask("POST", "/machines", WANTED)

    assert (first[0], second[0]) == (201, 200)
    assert first[1] == second[1]
    assert len(physics.existing()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"name": ""},
        {"shape": "toy-huge"},
        {"zone": "toy-north"},
        {"spot": "no"},
        {"tags": []},
        {"user_data": "?"},
        {"colour": "red"},
    ],
)
def test_a_wrong_field_is_refused(ask, physics, change):
    assert ask("POST", "/machines", WANTED | change)[0] == 400
    assert physics.made() == ()


@pytest.mark.parametrize("left_out", WANTED)
def test_a_missing_field_is_refused(ask, physics, left_out):
    status, answer = ask("POST", "/machines", {name: value for name, value in WANTED.items() if name != left_out})

    assert (status, answer["code"]) == (400, "bad-request")
    assert physics.made() == ()


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("PUT", "/machines"), ("DELETE", "/machines/a/b")])
def test_an_unknown_call_is_refused(ask, method, path):
    assert ask(method, path)[0] == 400


def test_codes_have_their_status(ask, physics):
    _, made = ask("POST", "/machines", WANTED)
    mismatch = ask("POST", "/machines", WANTED | {"spot": True})
    taken = ask("POST", "/machines", WANTED | {"token": "u"})
    physics.end(made["id"])
    used_up = ask("POST", "/machines", WANTED)
    absent = ask("DELETE", "/machines/m-404")
    physics.exhaust()
    full = ask("POST", "/machines", WANTED | {"token": "v", "name": "cb-2"})

    assert mismatch == (409, {"code": "token-mismatch"})
    assert taken == (409, {"code": "name-taken"})
    assert used_up == (409, {"code": "token-used-up"})
    assert absent == (404, {"code": "not-found"})
    assert full == (503, {"code": "capacity"})


def test_a_wrong_key_is_refused(ask):
    assert ask("GET", "/machines?owner=me", key="other") == (401, {"code": "credentials"})


def test_silence_cuts_the_connection(ask, physics):
    physics.go_down()
    with pytest.raises(Cut):
        ask("GET", "/shapes")


def test_a_lost_answer_cuts_the_connection_and_the_machine_is_there(ask, physics):
    physics.lose_next_answer()
    with pytest.raises(Cut):
        ask("POST", "/machines", WANTED)

    assert ask("POST", "/machines", WANTED)[0] == 200
    assert len(physics.existing()) == 1


def test_a_marked_machine_says_when(ask, physics):
    _, made = ask("POST", "/machines", WANTED)
    physics.preempt(made["id"], notice_ms=30_000)

    assert ask("GET", "/machines?owner=me")[1][0]["marked_ms"] == physics.now_ms() + 30_000
