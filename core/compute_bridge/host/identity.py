"""Who the bridge is: the operator's root key, the bridge secret, and the keys of one boot."""

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model.card import BootCertificate, BootKeys
from compute_bridge.model.ids import ProviderId, PublicKey, provider_id
from compute_bridge.ports.errors import BootError
from compute_bridge.wire.keys import derive_seed
from compute_bridge.wire.sealing import SealingSecret
from compute_bridge.wire.signing import Domain, Signed, public_key, sign

NONCE_BYTES = 32
ROOT_SEED_BYTES = 32


@frozen
class Identity:
    """The provider's identity in one coalition; held in memory, never written.

    ``secret`` is the bridge secret, from which lease keys and macs derive.
    """

    domain: Domain
    root: Ed25519PrivateKey = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def from_root_seed(cls, seed: bytes, domain: Domain) -> "Identity":
        """Return the identity of an operator root key's 32-byte ``seed``.

        :raises BootError: if the seed has another length.
        """
        if len(seed) != ROOT_SEED_BYTES:
            raise BootError(
                f"bridge.root_key holds {len(seed)} bytes where an Ed25519 seed has 32; "
                "make one with 'compute-bridge config new-key'"
            )
        root = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(domain, root, derive_seed(seed, "bridge-secret", domain.coalition))

    @property
    def root_key(self) -> PublicKey:
        """The operator's public root key."""
        return public_key(self.root)

    @property
    def provider(self) -> ProviderId:
        """The provider id: what the market knows us by."""
        return provider_id(self.domain.coalition, self.root_key)

    def boot_secrets(self, nonce: bytes) -> "BootSecrets":
        """Return the keys of the boot that drew ``nonce``.

        Derived, so that a later boot can finish what an earlier one promised under its own keys.
        """
        return BootSecrets(
            nonce,
            Ed25519PrivateKey.from_private_bytes(derive_seed(self.secret, "boot-signing", nonce)),
            SealingSecret.from_seed(derive_seed(self.secret, "boot-sealing", nonce)),
        )

    def certify(self, keys: BootKeys, epoch: int) -> Signed[BootCertificate]:
        """Return the root key's certificate for ``keys`` in ``epoch``."""
        certificate = BootCertificate(self.provider, self.root_key, epoch, keys)
        return sign(certificate, self.root, domain=self.domain)


@frozen
class BootSecrets:
    """The private keys of one boot and the public nonce that they derive from."""

    nonce: bytes
    signing: Ed25519PrivateKey = field(repr=False)
    sealing: SealingSecret = field(repr=False)

    @property
    def keys(self) -> BootKeys:
        """The public halves, as they stand in the certificate and the quote."""
        return BootKeys(public_key(self.signing), self.sealing.public)
