"""Settings under ASGI, where the stream has another view: Django would read a sync one to its end before sending."""

from chat.settings import *  # noqa: F403

ROOT_URLCONF = "chat.asgi_urls"
