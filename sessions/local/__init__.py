"""The back end of a session in this deployment: its records in Redis, its searches and documents through workers."""
