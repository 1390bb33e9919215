"""The store: what a fleet keeps in Redis, and the transitions that change it."""
