"""The transitions of the protocol: for each Lua script its arguments and replies, with types."""
