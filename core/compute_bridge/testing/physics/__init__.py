"""The physics of a cloud for wire-level fakes: machines, quotas, silence and guests, whatever the protocol."""
