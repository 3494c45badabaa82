"""The reference Compute module: admission, rounds, clearing, almanac, roster and ledger."""
