"""A chat as a Django project; docs/web-backends.md says more."""
