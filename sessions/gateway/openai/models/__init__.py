"""Models: the agents that a turn can name."""
