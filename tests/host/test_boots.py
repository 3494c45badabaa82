"""The boots that a journal tells of are those of one provider."""

import pytest

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.boots import boot_keys, known_boots
from compute_bridge.host.identity import Identity
from compute_bridge.model.ids import UniqueId
from compute_bridge.ports.errors import BootError
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire.signing import Domain

pytestmark = pytest.mark.anyio

DOMAIN = Domain(UniqueId(b"c" * 32), UniqueId(b"m" * 32))


async def test_the_journal_of_another_provider_is_refused_and_both_are_named(tmp_path) -> None:
    theirs, ours = (Identity.from_root_seed(bytes([seed]) * 32, DOMAIN) for seed in (1, 2))
    async with open_sqlite_journal(tmp_path / "journal", VirtualClock(), create=True) as journal:
        current, _ = await boot_keys(journal, theirs)
        with pytest.raises(BootError, match=f"is that of provider {theirs.provider.hex()}") as caught:
            await known_boots(journal, ours)

        assert ours.provider.hex() in str(caught.value)
        assert [current.keys.signing] == list(await known_boots(journal, theirs))
