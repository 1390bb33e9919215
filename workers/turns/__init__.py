"""Turns: the runner, one turn's execution, and webhook deliveries."""
