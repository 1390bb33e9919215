"""Moving sessions: the records of an export, the files that contain them, and the files of other libraries."""
