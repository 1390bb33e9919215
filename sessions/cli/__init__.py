"""`sessionfleet …`: the fleet from a terminal."""
