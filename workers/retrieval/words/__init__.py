"""The parts of the word rule: scripts and languages, spellings, and codes. `..lexical` combines them."""
