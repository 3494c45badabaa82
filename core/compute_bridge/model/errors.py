"""The errors that pure code raises; :mod:`compute_bridge.ports.errors` completes the tree."""


class ComputeBridgeError(Exception):
    """Something that compute-bridge can name went wrong; show the message."""


class RecordError(ComputeBridgeError):
    """Bytes are not the record they claim to be: size, encoding, schema or domain; drop them."""


class SignatureError(RecordError):
    """No valid signature by the key that was required; drop the record."""


class EnvelopeError(ComputeBridgeError):
    """An envelope is not ours, tampered, or does not open its commitments; drop, count, never answer."""
