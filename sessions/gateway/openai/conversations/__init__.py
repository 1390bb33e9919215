"""Conversations: sessions, with their histories as items."""
