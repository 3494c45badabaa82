"""Settlement by the ledger that the market keeps."""
