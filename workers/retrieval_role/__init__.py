"""The retrieval role: operations on memory and knowledge, and what turns recall."""
