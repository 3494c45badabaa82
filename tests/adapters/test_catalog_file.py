"""The stored catalog: written whole, read strictly, and never replaced where it cannot be read."""

import json
import os
import stat
from pathlib import Path

import pytest
from attrs import evolve

from compute_bridge.adapters.catalog_file import MAX_FILE_BYTES, FileCatalogStore, decode_catalog, encode_catalog
from compute_bridge.model.catalog import MAX_ROWS, Catalog, CatalogRow
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Posture, Region, Resources, Zone
from compute_bridge.model.units import Nanos, NanosPerHour, UtcMs
from compute_bridge.ports.catalog import CatalogError

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "operator" / "catalog.md").read_text()
BACKEND = BackendName("frankfurt")
COST = CostBasis(
    "USD",
    UnitNanos(machine=NanosPerHour(96_000_000), disk_gib=NanosPerHour(131_000), egress_gib=Nanos(90_000_000)),
    UtcMs(1_790_000_000_000),
    "pricing api",
    NanosPerHour(5_000_000),
)
ROW = CatalogRow(Region("eu-central-1"), Zone("eu-central-1a"), "m7i.large", Resources(2000, 8192, 256), COST)
SPOT = evolve(ROW, spot=True, posture=Posture.SEV_SNP)
CATALOG = Catalog(BACKEND, "aws", UtcMs(1_790_000_000_000), (ROW, SPOT))


@pytest.fixture
def store(tmp_path: Path) -> FileCatalogStore:
    return FileCatalogStore(tmp_path / "catalog")


def put(store: FileCatalogStore, raw: bytes) -> Path:
    path = store.path(BACKEND)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path


def changed(**keys: object) -> bytes:
    return json.dumps(json.loads(encode_catalog(CATALOG)) | keys).encode()


async def test_what_was_saved_is_loaded(store: FileCatalogStore):
    await store.save(CATALOG)

    assert CATALOG == await store.load(BACKEND, "aws")


async def test_rows_of_a_release_that_knew_no_local_disks_are_loaded(store: FileCatalogStore):
    rows = [
        {key: value for key, value in row.items() if key != "local_disk_gib"}
        for row in json.loads(encode_catalog(CATALOG))["rows"]
    ]
    put(store, changed(rows=rows))

    assert CATALOG == await store.load(BACKEND, "aws")


async def test_a_catalog_without_rows_is_loaded(store: FileCatalogStore):
    await store.save(evolve(CATALOG, rows=()))

    assert evolve(CATALOG, rows=()) == await store.load(BACKEND, "aws")


async def test_where_nothing_was_saved_nothing_is_loaded(store: FileCatalogStore):
    assert await store.load(BACKEND, "aws") is None


async def test_file_and_folder_are_the_operator_s_alone(store: FileCatalogStore):
    await store.save(CATALOG)
    path = store.path(BACKEND)

    assert (0o600, 0o700) == (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode))


async def test_a_save_leaves_nothing_beside_the_file(store: FileCatalogStore):
    await store.save(CATALOG)
    await store.save(evolve(CATALOG, rows=(ROW,)))

    assert ["frankfurt.json"] == [path.name for path in store.path(BACKEND).parent.iterdir()]


def test_the_page_shows_a_catalog_as_it_is_written():
    shown = PAGE.partition("```json\n")[2].partition("```")[0]

    assert encode_catalog(CATALOG).decode() == shown


def test_the_page_names_every_key_of_a_row():
    row = json.loads(encode_catalog(CATALOG))["rows"][0]
    keys = {*row, *row["resources"], *row["cost"], *row["cost"]["units"]} - {"units", "resources", "cost"}

    assert set() == {key for key in keys if f"`{key}`" not in PAGE}


BAD_ROW = json.loads(encode_catalog(CATALOG))["rows"][0]
DAMAGE = {
    "empty": (b"", "is damaged: "),
    "cut": (encode_catalog(CATALOG)[:200], "is damaged: "),
    "bytes": (b"\xff\xfe", "is damaged: "),
    "nested": (b"[" * 100_000, "is damaged: "),
    "list": (b"[]", "no JSON object"),
    "other": (b"{}", "is no catalog"),
    "twice": (encode_catalog(CATALOG).replace(b'"rows"', b'"kind": "aws",\n"rows"'), "a key stands twice"),
    "unknown key": (changed(more=1), "missing or unknown: 'more'"),
    "newer": (changed(version=2), "is of version 2, and this release reads up to 1; install"),
    "no version": (changed(version=True), '"version" is no whole number'),
    "money with a point": (changed(observed_at=1.5), "whole numbers"),
    "no number": (encode_catalog(CATALOG).replace(b"96000000", b"NaN"), "whole numbers"),
    "rows of a table": (changed(rows={}), '"rows" is no array'),
    "too many rows": (changed(rows=[0] * (MAX_ROWS + 1)), '"rows" is no array of at most'),
    "row": (changed(rows=[0]), "rows[0] is not a valid CatalogRow"),
    "row without a key": (changed(rows=[{k: v for k, v in BAD_ROW.items() if k != "spot"}]), "'spot' is missing"),
    "row with a key more": (changed(rows=[BAD_ROW | {"more": 1}]), "rows[0] is not a valid CatalogRow"),
    "number as text": (changed(rows=[BAD_ROW | {"spot": "no"}]), "rows[0] is not a valid CatalogRow"),
    "rows out of order": (encode_catalog(CATALOG).replace(b'"spot": true', b'"spot": false'), "rows must ascend"),
    "observed before time": (changed(observed_at=0), "observed_at 0 is not"),
}


@pytest.mark.parametrize(("raw", "says"), DAMAGE.values(), ids=list(DAMAGE))
async def test_a_damaged_file_is_named_with_what_is_wrong_and_the_mend(store: FileCatalogStore, raw: bytes, says: str):
    path = put(store, raw)
    with pytest.raises(CatalogError) as caught:
        await store.load(BACKEND, "aws")

    assert str(caught.value).startswith(f"catalog {path}: ")
    assert says in str(caught.value)
    assert "move it away" in str(caught.value)


@pytest.mark.parametrize(("raw", "_says"), DAMAGE.values(), ids=list(DAMAGE))
async def test_a_damaged_file_is_never_replaced(store: FileCatalogStore, raw: bytes, _says: str):
    path = put(store, raw)
    with pytest.raises(CatalogError):
        await store.save(CATALOG)

    assert raw == path.read_bytes()


@pytest.mark.parametrize("found", [evolve(CATALOG, backend=BackendName("dublin")), evolve(CATALOG, kind="gcp")])
async def test_another_backend_s_or_kind_s_file_is_refused_and_stays(store: FileCatalogStore, found: Catalog):
    path = put(store, encode_catalog(found))
    for attempt in (store.load(BACKEND, "aws"), store.save(CATALOG)):
        with pytest.raises(CatalogError, match="the boot file names frankfurt of kind aws; move it away"):
            await attempt

    assert encode_catalog(found) == path.read_bytes()


async def test_a_file_that_others_may_write_is_refused(store: FileCatalogStore):
    await store.save(CATALOG)
    store.path(BACKEND).chmod(0o620)

    with pytest.raises(CatalogError, match=r"others may write it .mode 0620.*chmod 600"):
        await store.load(BACKEND, "aws")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
async def test_what_is_no_file_is_refused_at_once(store: FileCatalogStore, make):
    store.path(BACKEND).parent.mkdir()
    make(store.path(BACKEND))

    with pytest.raises(CatalogError, match="move it away"):
        await store.load(BACKEND, "aws")


async def test_a_file_larger_than_any_catalog_is_not_read_to_its_end(store: FileCatalogStore):
    path = put(store, b"")
    with path.open("r+b") as file:
        file.truncate(2**40)

    with pytest.raises(CatalogError, match="larger than 67108864 bytes"):
        await store.load(BACKEND, "aws")


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "catalog").write_text("a file")

    with pytest.raises(CatalogError, match=r"catalog .*frankfurt\.json: "):
        await FileCatalogStore(tmp_path / "catalog").save(CATALOG)


def test_a_full_catalog_of_long_names_fits_in_its_file():
    row = evolve(SPOT, region=Region("r" * 24), zone=Zone("z" * 24), shape="s" * 48)

    assert MAX_ROWS * len(encode_catalog(evolve(CATALOG, rows=(row,)))) < MAX_FILE_BYTES


def test_no_row_decodes_to_another():
    with pytest.raises(RecordError):
        decode_catalog(encode_catalog(CATALOG).replace(b'"cpu_millis": 2000', b'"cpu_millis": 2e3'))
