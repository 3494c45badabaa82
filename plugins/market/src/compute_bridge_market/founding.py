"""``market init``: a folder with all that a new market needs."""

import json
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from compute_bridge.model.boot import ALLOW_DEVELOPMENT, AnchorSettings, FilePath
from compute_bridge.model.ids import PublicKey
from compute_bridge.model.units import BasisPoints, Micros
from compute_bridge.ports.errors import BootFileError
from compute_bridge_market.config import AccountSettings, AlmanacSettings, CoalitionSettings, FeeSettings
from compute_bridge_market.module import SEED_BYTES

FILE = "market.toml"

_TEMPLATE = """\
# A market of compute-bridge. The page "The market's file" of its documentation describes every key.
# Keys, currency, cadence, rule, fees, anchors and most limits stand in the handshake that participants hold:
# with any of them changed it is another coalition.

[coalition]
name = {name}
seed = "{seed}"
handshake = "handshake.cbor"
currency = {currency}

[keys]
signing = "file:keys/signing.key"
sealing = "file:keys/sealing.key"

[network]
kind = "sqlite"
path = "network.db"

[ledger]
file = "ledger.db"

[almanac]
cadence_ms = {cadence_ms}

[clearing]
rule = "lowest-rate"

[fees]
requester_bps = {requester_bps}
provider_bps = {provider_bps}
"""

_ATTESTATION = """
[attestation]
development = "{words}"
anchors = [{anchors}]
"""

_ACCOUNT = """
[[account]]
name = {name}
key = "{key}"
credit_micros = {credit}
"""


@frozen(kw_only=True)
class Founding:
    """What a new market is to be.

    ``anchors`` are (name, file) of development roots, ``accounts`` (name, public key in hex, credit).
    """

    name: str = "bridge-β"
    currency: str = "USD"
    cadence_ms: int = 1000
    requester_bps: int = 0
    provider_bps: int = 0
    anchors: Sequence[tuple[str, str]] = field(factory=tuple)
    accounts: Sequence[tuple[str, str, int]] = field(factory=tuple)


def write_market(folder: Path, founding: Founding) -> Path:
    """Write keys and ``market.toml`` into ``folder`` and return the file; what is there is left alone.

    :raises BootFileError: if there is a market already, or the folder cannot be written.
    """
    path = folder / FILE
    _require_sound(founding)
    try:
        (folder / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, _text(founding), 0o644)
        for name in ("signing", "sealing"):
            _write_new(folder / "keys" / f"{name}.key", f"{secrets.token_hex(SEED_BYTES)}\n", 0o600)
    except FileExistsError as error:
        raise BootFileError(
            f"{error.filename}: is there already; a market's keys and file are never overwritten, name another folder"
        ) from error
    except OSError as error:
        raise BootFileError(f"{folder}: {error}; name a folder that this user may write") from error
    return path


def _require_sound(founding: Founding) -> None:
    """Return if the terms can stand in a file, before any is written."""
    try:
        CoalitionSettings(name=founding.name, seed=bytes(32), handshake=FilePath(""), currency=founding.currency)
        AlmanacSettings(cadence_ms=founding.cadence_ms)
        FeeSettings(requester_bps=BasisPoints(founding.requester_bps), provider_bps=BasisPoints(founding.provider_bps))
        for name, key, credit in founding.accounts:
            AccountSettings(name=name, key=_public_key(name, key), credit_micros=Micros(credit))
        for name, file in founding.anchors:
            AnchorSettings(name=name, file=FilePath(file), development=True)
    except ValueError as error:
        raise BootFileError(f"market init: {error}; nothing was written") from error


def _public_key(name: str, key: str) -> PublicKey:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        raise ValueError(
            f"--account {name}: the public key must be 64 hex digits, as 'compute-bridge request new-key' prints it; "
            f"got {len(key)} characters"
        )
    return PublicKey(bytes.fromhex(key))


def _text(founding: Founding) -> str:
    text = _TEMPLATE.format(
        name=json.dumps(founding.name, ensure_ascii=False),
        seed=secrets.token_hex(32),
        currency=json.dumps(founding.currency),
        cadence_ms=founding.cadence_ms,
        requester_bps=founding.requester_bps,
        provider_bps=founding.provider_bps,
    )
    if founding.anchors:
        anchors = ", ".join(
            f"{{ name = {json.dumps(name)}, file = {json.dumps(str(Path(file).absolute()))}, development = true }}"
            for name, file in founding.anchors
        )
        text += _ATTESTATION.format(words=ALLOW_DEVELOPMENT, anchors=anchors)
    for name, key, credit in founding.accounts:
        text += _ACCOUNT.format(name=json.dumps(name), key=key, credit=credit)
    return text


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
