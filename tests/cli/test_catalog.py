"""``compute-bridge catalog``: fetched and stored, shown, compared and judged; a bad answer harms nothing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = dispatch(["catalog", *arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def json_of(run, *arguments: str) -> tuple[int, Any]:
    code, told = run(*arguments, "--json")
    return code, json.loads(told)


# --- refresh --------------------------------------------------------------------------------------


def test_a_refresh_stores_what_the_backend_read(stock, run):
    code, told = run("refresh")

    assert Exit.OK == code
    assert "frankfurt (stocked): 2 rows stored\n" in told
    assert "hall-2 (stocked): reads no catalog; what it sells stands in its own table\n" in told
    assert ["a", "b"] == [row["shape"] for row in json.loads(stock.file.read_text())["rows"]]


def test_a_refresh_needs_neither_network_nor_journal_and_begins_neither(stock, run):
    run("refresh")

    assert ["catalog"] == [path.name for path in (stock.folder / "state").iterdir()]


def test_a_row_that_is_not_believed_is_told_and_left_out(stock, run):
    stock.say(rows=[["a", 10**8], ["a/spot", 2 * 10**8], ["b", 1], ["c", 0], ["d", 10**8, "USD"]])
    code, [told, _] = json_of(run, "refresh")

    assert (Exit.OK, 1) == (code, told["rows"])
    assert {
        "eu-1a/a/spot": "catalog-spot",
        "eu-1a/b": "catalog-unit",
        "eu-1a/c": "cost-zero",
        "eu-1a/d": "catalog-currency",
    } == {one["row"]: one["reason"] for one in told["findings"]}


def test_a_catalog_that_shrank_is_refused_until_it_is_accepted(stock, run):
    stock.say(rows=[[shape, 10**8] for shape in "abcde"])
    run("refresh")
    stock.say(rows=[["a", 10**8]])
    code, told = run("refresh", "--backend", "frankfurt")
    before = len(json.loads(stock.file.read_text())["rows"])
    accepted, _ = run("refresh", "--accept-shrunk")

    assert (Exit.ERROR, 5, Exit.OK) == (code, before, accepted)
    assert "refused, the stored one stays\n  the whole catalog [catalog-shrunk] 1 of 5 rows are left" in told
    assert 1 == len(json.loads(stock.file.read_text())["rows"])


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("unavailable", Exit.UNREACHABLE, "the price list does not answer"),
        ("foreign", Exit.ERROR, "fetch_catalog raised RuntimeError, which its port does not name"),
        ("nothing", Exit.ERROR, "fetch_catalog returned NoneType, not Catalog"),
        ("stranger", Exit.ERROR, "the catalog of backend dublin"),
    ],
)
def test_a_bad_answer_is_told_and_leaves_what_was_stored(stock, run, word, code, says):
    run("refresh")
    before = stock.file.read_bytes()
    stock.say(catalog=word)
    found, told = run("refresh")

    assert (code, before) == (found, stock.file.read_bytes())
    assert says in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("word", "says"), [("credentials", "AuthFailure"), ("foreign", "opening it raised RuntimeError")]
)
def test_a_backend_that_does_not_open_is_told_and_the_others_are_asked(stock, run, word, says):
    stock.say(open=word)
    code, told = run("refresh")

    assert Exit.ERROR == code
    assert says in told
    assert "s3cret" not in told
    assert "hall-2" in told


def test_a_damaged_file_is_named_and_stays(stock, run):
    run("refresh")
    stock.file.write_text("{")
    code, told = run("refresh")

    assert (Exit.ERROR, "{") == (code, stock.file.read_text())
    assert f"catalog {stock.file.relative_to(stock.folder.parent)}" in told or f"catalog {stock.file}" in told
    assert "move it away" in told


def test_a_backend_that_the_file_does_not_name_is_a_wrong_command(stock, run):
    code, told = run("refresh", "--backend", "dublin")

    assert Exit.USAGE == code
    assert "names frankfurt, hall-2" in told


# --- show -----------------------------------------------------------------------------------------


def test_the_stored_rows_are_shown_with_their_age(stock, run):
    stock.say(age_s=7300, rows=[["a", 96_000_000], ["a/spot", 31_000_001]])
    run("refresh")
    code, told = run("show")

    assert Exit.OK == code
    assert told.startswith("frankfurt (stocked): 2 rows, read 2 h ago\n")
    assert (
        "  eu-1a/a  eu-1  2 vCPU, 8192 MiB, 100 GiB  x86_64, none  0.096 EUR an hour  (script)\n"
        "  eu-1a/a/spot  eu-1  2 vCPU, 8192 MiB, 100 GiB  x86_64, none  0.031000001 EUR an hour  (script)\n"
    ) in told


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ([], ["m5.large", "m5.large", "m7.large"]),
        (["--shape", "m5.*"], ["m5.large", "m5.large"]),
        (["--spot"], ["m5.large"]),
        (["--on-demand"], ["m5.large", "m7.large"]),
        (["--region", "eu-2"], []),
    ],
)
def test_rows_are_chosen_by_region_shape_and_spot(stock, run, filters, shown):
    stock.say(rows=[["m5.large", 10**8], ["m5.large/spot", 10**7], ["m7.large", 10**8]])
    run("refresh")
    _, [told, _] = json_of(run, "show", *filters)

    assert shown == [row["shape"] for row in told["rows"]]


def test_where_nothing_is_stored_show_says_how_to_fetch(stock, run):
    asked_of_all, told = run("show")
    asked_of_one, _ = run("show", "--backend", "frankfurt")

    assert (Exit.OK, Exit.ERROR) == (asked_of_all, asked_of_one)
    assert "frankfurt (stocked): no catalog is stored; compute-bridge catalog refresh fetches one" in told


def test_show_and_check_open_no_backend(stock, run):
    run("refresh")
    stock.say(open="foreign")

    assert [Exit.OK, Exit.OK] == [run("show")[0], run("check")[0]]


# --- diff -----------------------------------------------------------------------------------------


def test_a_diff_tells_what_would_change_and_stores_nothing(stock, run):
    run("refresh")
    before = stock.file.read_bytes()
    stock.say(rows=[["b", 3 * 10**8], ["c", 10**8]])
    code, told = run("diff", "--backend", "frankfurt")

    assert (Exit.OK, before) == (code, stock.file.read_bytes())
    assert told == (
        "frankfurt (stocked): 1 new, 1 gone, 1 changed, 0 the same\n"
        "  + eu-1a/c  0.1 EUR\n"
        "  - eu-1a/a  0.1 EUR\n"
        "  ~ eu-1a/b  0.2 EUR -> 0.3 EUR\n"
    )


def test_a_later_time_alone_is_no_difference(stock, run):
    stock.say(age_s=100)
    run("refresh")
    stock.say(age_s=0)
    _, [told, _] = json_of(run, "diff")

    assert ([], [], [], 2) == (told["new"], told["gone"], told["changed"], told["same"])


def test_a_diff_with_nothing_stored_is_all_new(stock, run):
    _, [told, _] = json_of(run, "diff")

    assert ["a", "b"] == [row["shape"] for row in told["new"]]
    assert not stock.file.exists()


# --- check ----------------------------------------------------------------------------------------


def test_a_check_of_a_good_catalog_finds_nothing(stock, run):
    run("refresh")
    code, told = run("check")

    assert Exit.OK == code
    assert "frankfurt (stocked): 2 rows, read 0 s ago, 0 findings\n" in told or "1 s ago, 0 findings\n" in told


def test_a_check_finds_what_has_grown_old(stock, run):
    stock.say(age_s=90_000)
    run("refresh")
    code, [told, _] = json_of(run, "check")

    assert Exit.ERROR == code
    assert ["cost-stale", "cost-stale"] == [one["reason"] for one in told["findings"]]


def test_a_check_keeps_to_the_limit_of_the_boot_file(stock, run):
    stock.say(age_s=90_000)
    stock.boot("[rate]\n", "[rate]\ncost_max_age_s = 100000\n")
    run("refresh")

    assert Exit.OK == run("check")[0]


def test_a_check_judges_what_was_changed_by_hand(stock, run):
    run("refresh")
    stock.file.write_text(stock.file.read_text().replace('"machine": 100000000', '"machine": 0'))
    code, told = run("check")

    assert Exit.ERROR == code
    assert "  eu-1a/a [cost-zero] its price is nothing" in told


def test_a_check_of_a_damaged_file_names_it(stock, run):
    run("refresh")
    stock.file.write_text("{")
    code, told = run("check")

    assert Exit.ERROR == code
    assert "frankfurt.json: is damaged" in told


def test_an_observation_is_utc(stock, run):
    run("refresh")
    _, [told, _] = json_of(run, "show")
    at = datetime.fromtimestamp(told["observed_at"] / 1000, UTC)

    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
