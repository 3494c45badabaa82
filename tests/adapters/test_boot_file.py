"""The boot file: strict, every fault at once, secrets never shown, each value's origin known."""

import re
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NewType

import pytest
from attrs import evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.adapters.boot_file import (
    LoadedBoot,
    load_boot,
    load_table,
    require_secrets,
    resolved_digest,
    structure_table,
)
from compute_bridge.adapters.boot_overrides import known_keys, variable_of
from compute_bridge.adapters.boot_settings import kind_schema, schema, settings
from compute_bridge.adapters.strict_toml import require_readable
from compute_bridge.model.boot import ALLOW_DEVELOPMENT, BelowCost, Choice, FilePath, SecretRef, about
from compute_bridge.model.checks import octets, text, whole
from compute_bridge.ports.errors import BootFileError, Fault, PluginError

GOOD = f"""\
[bridge]
name = "north"
state_dir = "state"
root_key = "file:root.key"
max_leases = 4

[coalition]
handshake = "beta.handshake"
fingerprint = "{"ab" * 32}"

[network]
kind = "sqlite"
path = "net.sqlite"

[attestation]
source = "software"
directory = "attester"
development = "{ALLOW_DEVELOPMENT}"

[rate]
policy = "fixed"

[routing]
policy = "first-fit"

[settlement]
kind = "ledger"

[[band]]
name = "small"
floor = {{ cpu_millis = 100, mem_mib = 64 }}
ceiling = {{ cpu_millis = 4000, mem_mib = 8192 }}
slots = 2

[[backend]]
name = "rack"
kind = "baremetal"
isolation = "none"
"""
CANARY = "hunter2-canary-value"


@frozen
class NetworkTable:
    path: Path = field(metadata=about("where it lies"))
    wait_ms: int = field(default=10, validator=whole(0, 100))
    token: SecretRef | None = None


@frozen
class AnyTable:
    settings: dict[str, Any] = field(factory=dict, metadata=about("anything", rest=True))


def class_of(choice: Choice) -> type[Any]:
    return NetworkTable if choice.group == "networks" else AnyTable


def write(folder: Path, content: str) -> Path:
    path = folder / "bridge.toml"
    path.write_text(content)
    return path


def load(
    folder: Path, content: str = GOOD, *, flags: dict[str, str] | None = None, environ: dict[str, str] | None = None
) -> LoadedBoot:
    return load_boot(write(folder, content), flags=flags, environ=environ or {})


def faults_of(folder: Path, content: str = GOOD, **given: Any) -> dict[str, Fault]:
    with pytest.raises(BootFileError) as caught:
        load(folder, content, **given)
    assert "bridge.toml: " in str(caught.value)
    return {fault.key: fault for fault in caught.value.faults}


# --- a good file ----------------------------------------------------------------------------------


def test_a_good_file_is_read(tmp_path: Path):
    boot = load(tmp_path).boot

    assert (boot.bridge.name, boot.bridge.max_leases, boot.bridge.drain_s) == ("north", 4, 30)
    assert boot.coalition.fingerprint == bytes.fromhex("ab" * 32)
    assert boot.rate.below_cost is BelowCost.REFUSE
    assert boot.attestation.allows_development


def test_the_keys_of_a_kind_wait_for_its_plugin(tmp_path: Path):
    boot = load(tmp_path).boot

    assert boot.network.settings == {"path": "net.sqlite"}
    assert boot.backends[0].settings == {"isolation": "none"}


def test_every_kind_that_the_file_names_is_a_choice(tmp_path: Path):
    found = {choice.key: (choice.group, choice.kind) for choice in load(tmp_path).boot.choices}

    assert found == {
        "network": ("networks", "sqlite"),
        "shuffle": ("shuffles", "direct"),
        "attestation": ("quote_sources", "software"),
        "rate": ("rate_policies", "fixed"),
        "routing": ("routing_policies", "first-fit"),
        "settlement": ("settlements", "ledger"),
        "backend[0]": ("backends", "baremetal"),
    }


def test_a_relative_path_is_taken_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path / "elsewhere")

    loaded = load_boot(Path("../bridge.toml"), environ={})

    assert Path(loaded.boot.bridge.state_dir).resolve() == tmp_path / "state"
    assert Path(loaded.boot.bridge.root_key.removeprefix("file:")).resolve() == tmp_path / "root.key"
    assert loaded.configs(class_of)["network"].path.resolve() == tmp_path / "net.sqlite"


def test_bands_are_in_the_order_of_a_card(tmp_path: Path):
    band = GOOD.split("[[band]]")[1].split("[[backend]]")[0]
    content = GOOD.replace("[[backend]]", f"[[band]]{band}[[backend]]".replace('"small"', '"a"'))

    assert [one.name for one in load(tmp_path, content).boot.bands] == ["a", "small"]


# --- faults ---------------------------------------------------------------------------------------


def test_six_mistakes_are_told_at_once(tmp_path: Path):
    content = (
        GOOD.replace("max_leases = 4", 'max_leases = "four"\nmax_lease = 3')
        .replace('name = "north"', "")
        .replace('policy = "fixed"', 'policy = "fixed"\nbelow_cost = "maybe"')
        .replace("slots = 2", "slots = 0")
        .replace("ab" * 32, "abc")
    )

    found = faults_of(tmp_path, content)

    assert set(found) == {
        "bridge.name",
        "bridge.max_leases",
        "bridge.max_lease",
        "coalition.fingerprint",
        "rate.below_cost",
        "band[0].slots",
    }


@pytest.mark.parametrize(
    ("line", "mistake", "key", "expected", "got", "mend"),
    [
        ("max_leases = 4", 'max_leases = "4"', "bridge.max_leases", "a whole number", '"4"', "without quotes"),
        ("max_leases = 4", "max_leases = 4.0", "bridge.max_leases", "a whole number", "4.0", "digits only"),
        ("max_leases = 4", "max_leases = true", "bridge.max_leases", "a whole number", "true", "digits only"),
        ("max_leases = 4", "max_leases = 0", "bridge.max_leases", "from 1 to", "0", "most leases open"),
        ('name = "north"', "name = 5", "bridge.name", "text", "5", "in quotes"),
        ('name = "north"', 'name = "North Pole"', "bridge.name", "not a label", '"North Pole"', "what the operator"),
        ('name = "north"', 'names = "north"', "bridge.names", "unknown key", "text", 'did you mean "name"?'),
        ('name = "north"', "", "bridge.name", "must be given, text", "nothing", "add it: what the operator"),
        ('"state"', '"~/state"', "bridge.state_dir", "a path", '"~/state"', "~ is not expanded"),
        ("ab" * 32, "ab" * 31, "coalition.fingerprint", "must be 32 bytes, got 31", "abab", "64 hex digits"),
        ("ab" * 32, "0x" + "ab" * 31, "coalition.fingerprint", "hex digits", "0xab", "0-9 and a-f"),
        ('kind = "ledger"', 'kind = ["ledger"]', "settlement.kind", "text", "a list of 1", "in quotes"),
        ("[routing]", "[[routing]]", "routing", "a table", "a list of 1", "[table]"),
        ("cpu_millis = 100", "cpu_millis = 5000", "band[0]", "floor exceeds ceiling", "these values together", "one"),
        (
            'name = "rack"',
            'name = "rack"\n[plugins]\nx = "blake3:1"',
            "plugins",
            "64 lower-case hex",
            "a table",
            "pins",
        ),
    ],
)
def test_a_fault_says_what_stands_there_and_the_mend(
    tmp_path: Path, line: str, mistake: str, key: str, expected: str, got: str, mend: str
):
    assert line in GOOD

    found = faults_of(tmp_path, GOOD.replace(line, mistake, 1))

    assert expected in found[key].expected
    assert got in found[key].got
    assert mend in found[key].mend


def test_a_file_without_a_band_or_a_backend_is_refused(tmp_path: Path):
    found = faults_of(tmp_path, "band = []\n" + GOOD.split("[[band]]")[0])

    assert "there must be 1 to 64 [[band]] tables" in found["band"].expected
    assert found["backend"].expected.startswith("must be given")


def test_two_backends_of_one_name_are_refused(tmp_path: Path):
    found = faults_of(tmp_path, GOOD + '[[backend]]\nname = "rack"\nkind = "aws"\n')

    assert "'rack' stands twice" in found["backend"].expected


def test_two_bands_of_one_name_are_refused(tmp_path: Path):
    band = "[[band]]" + GOOD.split("[[band]]")[1].split("[[backend]]")[0]

    assert (
        "'small' stands twice"
        in faults_of(tmp_path, GOOD.replace("[[backend]]", band + "[[backend]]"))["band"].expected
    )


@pytest.mark.parametrize("words", ["", 'development = "yes"\n', f'development = "{ALLOW_DEVELOPMENT.upper()}"\n'])
def test_a_development_attester_must_be_allowed_in_exactly_these_words(tmp_path: Path, words: str):
    content = GOOD.replace(f'development = "{ALLOW_DEVELOPMENT}"\n', words)

    assert ALLOW_DEVELOPMENT in faults_of(tmp_path, content)["attestation.development"].expected


def test_a_development_anchor_must_be_allowed_in_words(tmp_path: Path):
    content = GOOD.replace('"software"', '"tsm"').replace(
        f'development = "{ALLOW_DEVELOPMENT}"', 'anchors = [{ name = "lab", file = "lab.der", development = true }]'
    )

    assert ALLOW_DEVELOPMENT in faults_of(tmp_path, content)["attestation.development"].expected


def test_the_tables_of_the_kinds_tell_their_faults_at_once(tmp_path: Path):
    content = GOOD.replace('path = "net.sqlite"', "wait_ms = 1000\npth = 5")

    with pytest.raises(BootFileError) as caught:
        load(tmp_path, content).configs(class_of)

    assert [fault.key for fault in caught.value.faults] == ["network.path", "network.pth", "network.wait_ms"]


def test_a_config_class_that_no_file_can_hold_is_the_plugins_fault(tmp_path: Path):
    @frozen
    class Odd:
        number: complex

    with pytest.raises(PluginError, match=r"kind 'sqlite' of networks.*complex"):
        load(tmp_path).configs(lambda choice: Odd if choice.group == "networks" else AnyTable)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[bridge\n", "not TOML: .*line 1"),
        (b"a = 1\na = 2\n", "not TOML: .*line 2"),
        (b"a = '\xff'\n", "not UTF-8"),
        (b"a = " + b"[" * 5000, "nested too deep|not TOML"),
        (b"#" * (2**20 + 1), "larger than"),
    ],
)
def test_what_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes, says: str):
    path = tmp_path / "bridge.toml"
    path.write_bytes(content)

    with pytest.raises(BootFileError, match=says) as caught:
        load_boot(path, environ={})

    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str):
    with pytest.raises(BootFileError, match=re.escape(str(tmp_path / name))):
        load_boot(tmp_path / name, environ={})


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('root_key = "file:root.key"', f'root_key = "{CANARY}"'),
        ('root_key = "file:root.key"', f'root_key = "env:{CANARY}"'),
        ('root_key = "file:root.key"', f'root_key = "file:root.key"\nrootkey = "{CANARY}"'),
        ('root_key = "file:root.key"', f'root_key = "file:root.key"\npasswrd = "{CANARY}"'),
        ('root_key = "file:root.key"', f'root_key = ["{CANARY}"]'),
        ('path = "net.sqlite"', f'path = "net.sqlite"\ntoken = "{CANARY}"'),
        ('path = "net.sqlite"', f'path = "net.sqlite"\ntokne = "{CANARY}"'),
        ('path = "net.sqlite"', f'path = "-----BEGIN PRIVATE KEY-----{CANARY}"'),
        ('name = "north"', f'name = "sk-{CANARY}-{CANARY}"'),
        ('name = "north"', f'name = "AKIAABCDEFGHIJKLMNOP {CANARY}"'),
    ],
)
def test_a_secret_in_place_of_a_reference_is_refused_and_not_shown(tmp_path: Path, line: str, mistake: str):
    with pytest.raises(BootFileError) as caught:
        load(tmp_path, GOOD.replace(line, mistake)).configs(class_of)

    assert CANARY not in f"{caught.value} {caught.value.faults!r}"


def test_a_key_that_is_named_like_a_secret_holds_a_reference_whatever_its_type(tmp_path: Path):
    @frozen
    class Table:
        api_key: str

    with pytest.raises(BootFileError) as caught:
        structure_table({"api_key": CANARY}, Table, "backend[0]")

    assert CANARY not in str(caught.value)
    assert structure_table({"api_key": "env:KEY"}, Table, "backend[0]") == Table("env:KEY")


def test_the_check_of_a_secret_key_does_not_show_its_value(tmp_path: Path):
    @frozen
    class Table:
        password: bytes = field(validator=octets(2))

    with pytest.raises(BootFileError) as caught:
        structure_table({"password": "c0ffee"}, Table, "x")

    assert "c0ffee" not in str(caught.value)
    assert "\\xc0" not in str(caught.value)


def test_a_repr_shows_no_settings_of_a_kind(tmp_path: Path):
    assert "net.sqlite" not in repr(load(tmp_path))


def test_every_secret_that_cannot_be_read_is_told_at_once(tmp_path: Path):
    loaded = load(tmp_path, GOOD.replace('path = "net.sqlite"', 'path = "net.sqlite"\ntoken = "env:NO_SUCH_TOKEN"'))

    with pytest.raises(BootFileError) as caught:
        require_secrets(loaded, loaded.configs(class_of))

    assert "bridge.root_key: secret file:" in str(caught.value)
    assert "network.token: secret env:NO_SUCH_TOKEN" in str(caught.value)


def test_secrets_that_can_be_read_are_counted(tmp_path: Path):
    (tmp_path / "root.key").write_text("00" * 32)
    (tmp_path / "root.key").chmod(0o600)
    loaded = load(tmp_path)

    assert require_secrets(loaded, loaded.configs(class_of)) == 1


VALUES = {
    "bridge.root_key": "env:X",
    "bridge.custody": "in-guest",
    "coalition.fingerprint": "cd" * 32,
    "attestation.development": ALLOW_DEVELOPMENT,
    "rate.below_cost": "allow",
    "rate.cost_max_age_s": "77",
    "rate.zero_cost": "allow",
}

# --- precedence and origin ------------------------------------------------------------------------


def test_a_flag_goes_before_the_environment_and_that_before_the_file(tmp_path: Path):
    environ = {"COMPUTE_BRIDGE_BRIDGE__NAME": "east", "COMPUTE_BRIDGE_BRIDGE__MAX_LEASES": "7"}
    loaded = load(tmp_path, flags={"bridge.name": "west"}, environ=environ)

    assert (loaded.boot.bridge.name, loaded.boot.bridge.max_leases) == ("west", 7)


def test_every_value_has_its_origin(tmp_path: Path):
    environ = {"COMPUTE_BRIDGE_NETWORK__WAIT_MS": "20"}
    loaded = load(tmp_path, flags={"bridge.name": "west"}, environ=environ)
    origins = {one.key: one.origin for one in settings(loaded, loaded.configs(class_of))}

    assert origins["bridge.name"] == "flag --set bridge.name"
    assert origins["network.wait_ms"] == "environment COMPUTE_BRIDGE_NETWORK__WAIT_MS"
    assert origins["network.path"] == "bridge.toml"
    assert origins["backend[0].isolation"] == "bridge.toml"
    assert origins["bridge.drain_s"] == "default"


def test_a_fault_from_outside_the_file_names_where_it_is_from(tmp_path: Path):
    found = faults_of(tmp_path, environ={"COMPUTE_BRIDGE_BRIDGE__MAX_LEASES": "many"})

    assert found["bridge.max_leases"].got == '"many" from environment COMPUTE_BRIDGE_BRIDGE__MAX_LEASES'


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("COMPUTE_BRIDGE_NETWRK__PATH", "did you mean COMPUTE_BRIDGE_NETWORK__PATH?"),
        ("COMPUTE_BRIDGE_TRAC", "did you mean COMPUTE_BRIDGE_TRACE?"),
        ("COMPUTE_BRIDGE_BAND__NAME", "COMPUTE_BRIDGE_"),
        ("COMPUTE_BRIDGE_QUITE_SOMETHING_ELSE_ALTOGETHER", "unset it"),
    ],
)
def test_a_variable_of_ours_that_sets_nothing_is_a_fault(tmp_path: Path, name: str, mend: str):
    assert mend in faults_of(tmp_path, environ={name: CANARY})[name].mend


def test_an_unknown_key_from_the_environment_is_a_fault(tmp_path: Path):
    found = faults_of(tmp_path, environ={"COMPUTE_BRIDGE_BRIDGE__NAMES": "x"})

    assert found["bridge.names"].got == "text from environment COMPUTE_BRIDGE_BRIDGE__NAMES"


def test_a_variable_that_a_secret_is_in_sets_no_key(tmp_path: Path):
    content = GOOD.replace("file:root.key", "env:COMPUTE_BRIDGE_ROOT_KEY")

    assert load(tmp_path, content, environ={"COMPUTE_BRIDGE_ROOT_KEY": CANARY}).boot.bridge.root_key


def test_variables_with_another_purpose_are_let_be(tmp_path: Path):
    environ = {"COMPUTE_BRIDGE_TRACE": "1", "COMPUTE_BRIDGE_CONFIG": "x", "HOME": "/"}

    assert load(tmp_path, environ=environ).boot == load(tmp_path).boot


def test_a_list_cannot_come_from_the_environment(tmp_path: Path):
    found = faults_of(tmp_path, environ={"COMPUTE_BRIDGE_ATTESTATION__ANCHORS": "[]"})

    assert "write it in the file" in found["attestation.anchors"].mend


@pytest.mark.parametrize("key", ["bridge", "bnad.name", "backend[0].name", "plugins.x", ""])
def test_a_flag_that_names_no_single_key_is_a_fault(tmp_path: Path, key: str):
    assert f"--set {key}" in faults_of(tmp_path, flags={key: "x"})


@pytest.mark.parametrize("key", list(known_keys()))
def test_every_single_key_has_one_variable(tmp_path: Path, key: str):
    loaded = load(tmp_path, environ={variable_of(key): VALUES.get(key, "7")})

    assert loaded.origin_of(key) == f"environment {variable_of(key)}"


# --- the digest -----------------------------------------------------------------------------------


def test_the_digest_does_not_depend_on_the_folder_nor_on_where_a_value_came_from(tmp_path: Path):
    (tmp_path / "a").mkdir()
    here = resolved_digest(load(tmp_path))
    there = resolved_digest(
        load(
            tmp_path / "a",
            GOOD.replace("max_leases = 4", "max_leases = 5"),
            environ={"COMPUTE_BRIDGE_BRIDGE__MAX_LEASES": "4"},
        )
    )

    assert here == there


def test_a_kinds_key_has_one_digest_from_file_and_flag(tmp_path: Path):
    in_file = resolved_digest(load(tmp_path, GOOD.replace('path = "net', 'wait_ms = 5\npath = "net')))

    assert resolved_digest(load(tmp_path, flags={"network.wait_ms": "5"})) == in_file


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ('root_key = "file:root.key"', 'root_key = "file:other.key"'),
        ("max_leases = 4", "max_leases = 5"),
        ("max_leases = 4", "max_leases = 4\ndrain_s = 31"),
        ('path = "net.sqlite"', 'path = "other.sqlite"'),
        ('isolation = "none"', 'isolation = "none"\nwhen = 2026-01-01'),
        ('isolation = "none"', 'isolation = "none"\nwhen = "2026-01-01"'),
        ('isolation = "none"', 'isolation = "none"\nx = 1.5'),
        ('isolation = "none"', 'isolation = "none"\nx = "1.5"'),
    ],
)
def test_another_configuration_has_another_digest(tmp_path: Path, line: str, other: str):
    changed = {resolved_digest(load(tmp_path, GOOD.replace(line, other))), resolved_digest(load(tmp_path))}

    assert len(changed) == 2


def test_a_date_and_its_text_have_different_digests(tmp_path: Path):
    contents = [f"{GOOD}when = {value}\n" for value in ("2026-01-01", '"2026-01-01"', "1.5", '"1.5"')]

    assert len({resolved_digest(load(tmp_path, content)) for content in contents}) == 4


def test_a_default_that_is_spelt_out_changes_no_digest(tmp_path: Path):
    spelt = GOOD.replace("max_leases = 4", "max_leases = 4\ndrain_s = 30") + '[shuffle]\nkind = "direct"\n'

    assert resolved_digest(load(tmp_path, spelt)) == resolved_digest(load(tmp_path))


def test_the_digest_covers_what_was_measured(tmp_path: Path):
    loaded = load(tmp_path)

    assert resolved_digest(loaded, measured={"compute-bridge-x": bytes(32)}) != resolved_digest(loaded)


# --- any file of ours -----------------------------------------------------------------------------

Label = NewType("Label", str)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@frozen
class Inner:
    name: Label = field(validator=text(1, 8))
    size: int = 0

    def __attrs_post_init__(self) -> None:
        if self.name == "none" and self.size:
            raise ValueError("what is none has no size")


@frozen
class Wide:
    inner: Inner
    many: tuple[Inner, ...] = ()
    listed: list[int] = field(factory=list)
    named: dict[str, Inner] = field(factory=dict)
    plain: dict[str, Any] = field(factory=dict)
    colour: Colour = Colour.RED
    word: Literal["yes", "no"] = "no"
    ratio: float = 0.5
    at: datetime | None = None
    raw: bytes = b""
    file: FilePath | None = None
    is_on: bool = False


def write_table(folder: Path, content: str) -> Path:
    path = folder / "other.toml"
    path.write_text(content)
    return path


def test_any_table_of_ours_is_read_the_same_way(tmp_path: Path):
    path = write_table(
        tmp_path,
        'inner = { name = "a" }\nmany = [{ name = "b", size = 2 }]\nlisted = [1, 2]\ncolour = "blue"\nword = "yes"\n'
        'ratio = 1.5\nat = 2026-01-31T12:00:00Z\nraw = "00ff"\nfile = "x"\nis_on = true\nplain = { z = [1] }\n'
        '[named.c]\nname = "d"\n',
    )

    expected = Wide(
        inner=Inner(Label("a")),
        many=(Inner(Label("b"), 2),),
        listed=[1, 2],
        named={"c": Inner(Label("d"))},
        plain={"z": [1]},
        colour=Colour.BLUE,
        word="yes",
        ratio=1.5,
        at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        raw=b"\0\xff",
        file=FilePath(str(tmp_path / "x")),
        is_on=True,
    )

    assert expected == load_table(path, Wide)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ('inner = { name = "none", size = 1 }', "inner"),
        ('inner = { name = "a" }\nmany = [{ name = "b" }, { name = "" }]', "many[1].name"),
        ('inner = { name = "a" }\nmany = { name = "b" }', "many"),
        ('inner = { name = "a" }\nlisted = [1, "2"]', "listed[1]"),
        ('inner = { name = "a" }\n[named.c]\nsize = 1', "named.c.name"),
        ('inner = { name = "a" }\nnamed = 1', "named"),
        ('inner = { name = "a" }\ncolour = "green"', "colour"),
        ('inner = { name = "a" }\nword = "maybe"', "word"),
        ('inner = { name = "a" }\nratio = 1', "ratio"),
        ('inner = { name = "a" }\nat = 2026-01-31T12:00:00', "at"),
        ('inner = { name = "a" }\nat = "2026-01-31"', "at"),
        ('inner = { name = "a" }\nraw = "0"', "raw"),
        ('inner = { name = "a" }\nis_on = "no"', "is_on"),
        ("inner = 1", "inner"),
    ],
)
def test_a_fault_in_any_table_has_its_path(tmp_path: Path, content: str, key: str):
    with pytest.raises(BootFileError) as caught:
        load_table(write_table(tmp_path, content), Wide)

    assert [fault.key for fault in caught.value.faults] == [key]


def test_a_file_whose_root_breaks_a_rule_is_named_as_a_whole(tmp_path: Path):
    with pytest.raises(BootFileError, match="the whole file: what is none has no size"):
        load_table(write_table(tmp_path, 'name = "none"\nsize = 1'), Inner)


@given(
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.integers()),
    ),
    key=st.sampled_from([attribute.name for attribute in Wide.__attrs_attrs__]),
)
def test_no_value_leaves_anything_but_a_fault(value: object, key: str):
    table = {"inner": {"name": "a"}} | {key: value}
    with suppress(BootFileError):
        made = structure_table(table, Wide, "")

        assert evolve(made) == made


def test_a_type_that_no_file_can_hold_is_found_before_a_file_is_read():
    @frozen
    class Odd:
        either: int | str

    with pytest.raises(TypeError, match=re.escape("int | str")):
        require_readable(Odd)


def test_a_kinds_keys_are_described():
    found = {
        spec.key: (spec.holds, spec.default, spec.help, spec.variable) for spec in kind_schema(NetworkTable, "network")
    }

    assert found["network.path"] == ("a path", None, "where it lies", "COMPUTE_BRIDGE_NETWORK__PATH")
    assert found["network.wait_ms"][1] == "10"


def test_every_key_of_the_host_is_described():
    assert {"bridge.name", "band[].floor.cpu_millis", "attestation.anchors[].file"} <= {spec.key for spec in schema()}


def test_a_listing_shows_no_secret_that_slipped_in(tmp_path: Path):
    loaded = load(tmp_path, GOOD + f'password = "{CANARY}"\n')

    assert CANARY not in str(settings(loaded, {}))


def test_a_setting_is_a_line_of_toml(tmp_path: Path):
    loaded = load(tmp_path)
    lines = [one.text for one in settings(loaded, loaded.configs(class_of)) if "[" not in one.key]

    assert tomllib.loads("\n".join(lines))["bridge"]["name"] == "north"
