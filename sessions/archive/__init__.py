"""The archive: a record of committed turns in a database or a file of yours, and what can be restored from it."""
