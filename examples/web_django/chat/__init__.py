"""A chat as a Django project; see docs/web-backends.md."""
