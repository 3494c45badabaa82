"""What the crash matrix and the fault fuzz share: the truth after quiescence, and the invariants it must keep."""
