"""What a bridge, a requester and an auditor do, over ports only."""
