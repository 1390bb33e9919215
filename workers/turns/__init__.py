"""Running a turn: taking the lease, executing the attempt, and writing its outcome."""
