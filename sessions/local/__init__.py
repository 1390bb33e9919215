"""The back end of local sessions: records in the fleet's store, searches and documents by its workers."""
