"""What a worker does under a lease: heartbeat, journal, outcomes, and what follows its loss."""
