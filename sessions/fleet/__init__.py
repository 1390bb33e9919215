"""The embedded fleet: a server and workers that start by themselves on one machine."""
