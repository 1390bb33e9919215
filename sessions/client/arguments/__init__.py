"""Checks of what callers pass, each with an error that names the argument and what to pass instead."""
