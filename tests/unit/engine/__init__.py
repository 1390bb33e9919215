"""The engine alone: a dictionary for the journal, a list for the events, scripted models."""
