import stat
import subprocess
import sys
import threading

import anyio
import anyio.to_thread
import attrs
import dcap_qvl  # type: ignore[import-untyped]
import pytest

from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier
from compute_bridge.adapters.software_pki import DevelopmentRoot, PckFacts, sgx_extension
from compute_bridge.adapters.software_quotes import (
    SoftwareAttester,
    SoftwarePlatform,
    SoftwareQuoteSource,
    label_measurements,
    software_quote,
)
from compute_bridge.adapters.software_root import anchor_file, create_root, load_root, root_file
from compute_bridge.model.quote import DEVELOPMENT_FMSPC, QuotePolicy, TrustAnchor
from compute_bridge.ports.errors import NoQuoteError
from compute_bridge.wire.quote import parse_quote, quote_hash

NOW = 1_790_000_000
REPORT_DATA = bytes(range(64))


def verified(evidence, root_der, name="alice"):
    policy = QuotePolicy(anchors=(TrustAnchor(name, root_der, development=True),), allow_development=True)
    return DcapQuoteVerifier().verify(evidence, report_data=REPORT_DATA, now_s=NOW, policy=policy)


# --- the source -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_source_quotes_under_the_root_that_it_publishes(tmp_path):
    source = SoftwareQuoteSource(tmp_path / "roots", "alice", now_s=NOW)
    evidence = await source.quote(REPORT_DATA)
    root_der = await anyio.Path(tmp_path / "roots" / "alice.root.der").read_bytes()

    assert "alice" == (await anyio.to_thread.run_sync(verified, evidence, root_der)).anchor


def test_a_source_says_that_it_is_for_development(tmp_path):
    source = SoftwareQuoteSource(tmp_path, "alice", now_s=NOW)

    assert ("software", True) == (source.name, source.development)


@pytest.mark.anyio
async def test_two_sources_share_one_root_through_the_directory(tmp_path):
    quotes = [await SoftwareQuoteSource(tmp_path, "alice", now_s=NOW).quote(REPORT_DATA) for _ in range(2)]
    root_der = await anyio.Path(anchor_file(tmp_path, "alice")).read_bytes()

    assert ["alice"] * 2 == [(await anyio.to_thread.run_sync(verified, quote, root_der)).anchor for quote in quotes]


@pytest.mark.anyio
async def test_a_source_quotes_for_several_at_once(tmp_path):
    source = SoftwareQuoteSource(tmp_path, "alice", now_s=NOW)
    hashes = []

    async def quote(index):
        evidence = await source.quote(bytes([index] * 64))
        hashes.append(quote_hash(parse_quote(evidence.quote)))

    async with anyio.create_task_group() as group:
        for index in range(8):
            group.start_soon(quote, index)

    assert 8 == len(set(hashes))


@pytest.mark.anyio
async def test_a_source_whose_directory_cannot_be_written_gives_no_quote(tmp_path):
    blocked = tmp_path / "file"
    await anyio.Path(blocked).write_text("not a directory")

    with pytest.raises(NoQuoteError, match="cannot write the development root"):
        await SoftwareQuoteSource(blocked, "alice", now_s=NOW).quote(REPORT_DATA)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["../alice", "", "a/b", ".."])
async def test_a_name_never_leaves_the_directory(tmp_path, name):
    with pytest.raises(ValueError, match="label"):
        await SoftwareQuoteSource(tmp_path / "roots", name, now_s=NOW).quote(REPORT_DATA)


# --- the attester -----------------------------------------------------------------------------


def test_a_quote_carries_the_report_data_it_was_asked_for():
    attester = SoftwareAttester(DevelopmentRoot.generate("alice", now_s=NOW), now_s=NOW)

    assert REPORT_DATA == parse_quote(attester.evidence(REPORT_DATA).quote).report_data


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_size_is_refused(size):
    attester = SoftwareAttester(DevelopmentRoot.generate("alice", now_s=NOW), now_s=NOW)

    with pytest.raises(ValueError, match="report_data must be 64 bytes"):
        attester.evidence(bytes(size))


def test_measurements_can_be_chosen():
    platform = SoftwarePlatform(quote=software_quote(label_measurements("bridge 1")))
    attester = SoftwareAttester(DevelopmentRoot.generate("alice", now_s=NOW), now_s=NOW, platform=platform)

    assert label_measurements("bridge 1") == parse_quote(attester.evidence(REPORT_DATA).quote).measurements


def test_labels_give_measurements_of_their_own():
    first, second = label_measurements("a"), label_measurements("b")

    assert 10 == len({first.mr_td, *first.rtmrs, second.mr_td, *second.rtmrs})


def test_the_library_reads_the_platform_from_the_certificate():
    attester = SoftwareAttester(DevelopmentRoot.generate("alice", now_s=NOW), now_s=NOW)
    quote = dcap_qvl.Quote.parse(attester.evidence(REPORT_DATA).quote)
    extension = quote.pck_extension()

    assert ("platform", DEVELOPMENT_FMSPC, bytes([2] * 16), 11) == (
        quote.ca(),
        extension.fmspc,
        extension.cpu_svn,
        extension.pce_svn,
    )


def test_the_platform_extension_is_exact_der():
    facts = PckFacts(
        fmspc=DEVELOPMENT_FMSPC,
        ppid=bytes(16),
        platform_instance=bytes(16),
        cpu_svn=bytes([0x80] * 16),
        pce_svn=0x0100,
    )
    der = sgx_extension(facts)

    first_svn = bytes.fromhex("060b2a864886f84d010d01020102020080")
    pce_svn = bytes.fromhex("060b2a864886f84d010d01021102020100")

    assert b"\x30\x82" + (len(der) - 4).to_bytes(2, "big") == der[:4]
    assert (1, 1) == (der.count(first_svn), der.count(pce_svn))


def test_a_quote_of_a_machine_whose_clock_stands_at_the_epoch_verifies_there():
    root = DevelopmentRoot.generate("alice", now_s=0)
    evidence = SoftwareAttester(root, now_s=0).evidence(REPORT_DATA)
    policy = QuotePolicy(anchors=(root.anchor,), allow_development=True)

    assert "alice" == DcapQuoteVerifier().verify(evidence, report_data=REPORT_DATA, now_s=0, policy=policy).anchor


# --- the root in its directory ----------------------------------------------------------------


def test_only_the_owner_reads_the_private_root(tmp_path):
    create_root(tmp_path, "alice", now_s=NOW)

    assert 0o600 == stat.S_IMODE(root_file(tmp_path, "alice").stat().st_mode)


def test_a_root_is_made_once_and_then_loaded(tmp_path):
    made = create_root(tmp_path, "alice", now_s=NOW)

    assert made.anchor == create_root(tmp_path, "alice", now_s=NOW + 1).anchor == load_root(tmp_path, "alice").anchor


def test_the_public_file_is_the_anchor(tmp_path):
    made = create_root(tmp_path, "alice", now_s=NOW)

    assert made.anchor.root_ca_der == anchor_file(tmp_path, "alice").read_bytes()


def test_many_that_create_one_root_at_once_all_get_the_same(tmp_path):
    anchors = []
    start = threading.Barrier(8)

    def create():
        start.wait()
        anchors.append(create_root(tmp_path, "alice", now_s=NOW).anchor)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (8, 1) == (len(anchors), len(set(anchors)))


def test_creating_a_root_leaves_nothing_else_behind(tmp_path):
    for _ in range(2):
        create_root(tmp_path, "alice", now_s=NOW)

    assert ["alice.root.der", "alice.root.pem"] == sorted(path.name for path in tmp_path.iterdir())


def test_loading_a_root_that_is_not_there_names_the_file(tmp_path):
    with pytest.raises(NoQuoteError, match=r"alice\.root\.pem: cannot read the development root .* create it first"):
        SoftwareAttester.load(tmp_path, "alice", now_s=NOW)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_root_is_refused_naming_the_mend(tmp_path, content):
    root_file(tmp_path, "alice").write_bytes(content)

    with pytest.raises(NoQuoteError, match="not a private key and its certificate in PEM; delete it"):
        SoftwareAttester.create(tmp_path, "alice", now_s=NOW)


def test_a_key_with_the_certificate_of_another_is_refused(tmp_path):
    pems = []
    for name in ("alice", "bob"):
        create_root(tmp_path, name, now_s=NOW)
        pems.append(root_file(tmp_path, name).read_text())
    key, certificate = (text.index("-----BEGIN CERTIFICATE") for text in pems)
    root_file(tmp_path, "alice").write_text(pems[0][:key] + pems[1][certificate:])

    with pytest.raises(NoQuoteError, match="do not belong together"):
        load_root(tmp_path, "alice")


def test_no_repr_shows_a_private_key(tmp_path):
    root = create_root(tmp_path, "alice", now_s=NOW)
    attester = SoftwareAttester(root, now_s=NOW)
    shown = repr(root) + repr(attester.certificates) + repr(attester.evidence(REPORT_DATA))

    assert ("PrivateKey" in shown, "BEGIN" in shown) == (False, False)


def test_importing_the_source_does_not_import_the_verifying_library():
    program = "import sys, compute_bridge.adapters.software_quotes; print('dcap_qvl' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False" == result.stdout.strip()


def test_a_platform_out_of_order_says_so_in_its_quote():
    quote = attrs.evolve(software_quote(label_measurements("x")), td_attributes=bytes([1, 0, 0, 0x10, 0, 0, 0, 0]))
    root = DevelopmentRoot.generate("alice", now_s=NOW)
    attester = SoftwareAttester(root, now_s=NOW, platform=SoftwarePlatform(quote=quote))

    assert parse_quote(attester.evidence(REPORT_DATA).quote).is_debug
