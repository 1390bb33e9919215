"""One worker process: its start, its event loop, its slots, and how it stops."""
