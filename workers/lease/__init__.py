"""What a worker does under a lease: renew it, journal steps, and report its loss."""
