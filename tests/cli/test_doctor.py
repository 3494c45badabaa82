"""``compute-bridge doctor``: what each backend finds about itself, and whatever goes wrong as a finding too."""

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.host.doctor import examine
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.doctor import Finding, SupportsDoctor, Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "operator" / "doctor.md").read_text()
WELL = ["identity", "ok", "account 1234"]
DENIED = [
    "permission ec2:RunInstances",
    "fault",
    "denied",
    "attach the policy of compute-bridge aws policy",
]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = dispatch(["doctor", *arguments])
    return code, capsys.readouterr().out


def test_the_findings_are_told_as_the_page_shows(stock, capsys):
    stock.say(findings=[WELL, DENIED])
    code, out = told(capsys)

    assert Exit.ERROR == code
    shown = PAGE.partition("$ compute-bridge doctor\n")[2].partition("```")[0]

    assert out == re.sub(r"\((aws|baremetal)\)", "(stocked)", shown)


def test_where_all_is_well_the_command_ends_well(stock, capsys):
    stock.say(findings=[WELL, ["quota", "ok", "20 vCPUs free"], ["clock", "unknown", "no time was told"]])

    assert Exit.OK == told(capsys)[0]


@pytest.mark.parametrize(
    "findings",
    [[], [["quota", "unknown", "no answer"]], [WELL, ["quota", "unknown", "no answer"]]],
    ids=["nothing is told", "nothing is known", "only the identity is known"],
)
def test_a_backend_that_could_not_be_examined_passes_no_gate(stock, capsys, findings):
    stock.say(findings=findings)

    assert Exit.UNREACHABLE == told(capsys)[0]


def test_a_fault_is_told_before_what_is_unknown(stock, capsys):
    stock.say(findings=[["quota", "unknown", "no answer"], DENIED])

    assert Exit.ERROR == told(capsys)[0]


def test_findings_are_json_for_who_asks(stock, capsys):
    stock.say(findings=[DENIED])
    _, out = told(capsys, "--json")
    finding = dict(zip(("check", "verdict", "detail", "mend"), DENIED, strict=True))

    assert json.loads(out) == [
        {"backend": "frankfurt", "kind": "stocked", "has_doctor": True, "findings": [finding]},
        {"backend": "hall-2", "kind": "stocked", "has_doctor": False, "findings": []},
    ]


def test_one_backend_is_examined_where_one_is_named(stock, capsys):
    stock.say(findings=[DENIED])

    assert (Exit.OK, "hall-2 (stocked): has no doctor; nothing was examined\n") == told(capsys, "--backend", "hall-2")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"open": "credentials"}, "open  backend frankfurt: AuthFailure; check the key in its table"),
        ({"open": "foreign"}, "open  backend frankfurt: opening it raised RuntimeError"),
        ({"examine": "unavailable"}, "examination  backend frankfurt: the price list does not answer"),
        ({"examine": "foreign"}, "examination  backend frankfurt: examine raised RuntimeError"),
        ({"examine": "nothing"}, "examination  backend frankfurt: examine returned NoneType"),
    ],
)
def test_what_goes_wrong_is_a_finding_and_keeps_no_other_backend_from_its_own(stock, capsys, change, says):
    stock.say(**change)
    code, out = told(capsys)

    assert Exit.ERROR == code
    assert f"  fault    {says}" in out
    assert "hall-2" in out
    assert "s3cret" not in out


def test_a_secret_that_cannot_be_read_is_a_finding_with_its_key(stock, capsys):
    stock.boot('script = "script.json"\n', 'script = "script.json"\nkey = "file:absent"\n')
    code, out = told(capsys)

    assert Exit.ERROR == code
    assert "bridge.toml: backend[0].key: secret file:" in out


def test_a_backend_that_tells_nothing_is_not_called_well(stock, capsys):
    _, out = told(capsys)

    assert "  unknown  examination  the backend tells nothing of itself\n" in out


# --- whatever a plugin does -----------------------------------------------------------------------

GOOD = Finding("identity", Verdict.OK, "account 1234")


def bent(**fields: Any) -> Finding:
    finding = Finding("identity", Verdict.OK, "account 1234")
    for name, value in fields.items():
        object.__setattr__(finding, name, value)
    return finding


class Patient(SupportsDoctor):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def examine(self) -> Any:
        if self.answer is None:
            await anyio.sleep_forever()
        return self.answer


HOSTILE = {
    "a list": [GOOD],
    "a word": (GOOD, "well"),
    "a verdict of its own": (bent(verdict="splendid"),),
    "a verdict as text": (bent(verdict="ok"),),
    "a screen that is cleared": (bent(detail="\x1b[2J"),),
    "a mend that is none": (bent(mend=None),),
    "a book": (bent(detail="x" * 501),),
    "too many": (GOOD,) * 1001,
    "no answer": None,
}


@pytest.mark.anyio
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=list(HOSTILE))
async def test_an_answer_that_is_none_is_a_fault(answer):
    patient: Any = Patient(answer)
    findings = await examine(BackendName("frankfurt"), patient, within_s=0.05)

    assert [Verdict.FAULT] == [one.verdict for one in findings or ()]
