"""Responses: one leg of a turn each, which any client can follow, resume and cancel by its id."""
