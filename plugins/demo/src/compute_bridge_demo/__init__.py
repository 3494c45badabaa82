"""One market, two bridges and a requester, played on this machine."""
