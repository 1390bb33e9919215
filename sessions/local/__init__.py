"""A session's back end in this deployment: its records in Redis, its searches and documents through workers."""
