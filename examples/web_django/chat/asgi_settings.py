"""Settings under ASGI, where the stream is another view: Django would read a sync one to its end before it sent any."""

from chat.settings import *  # noqa: F403

ROOT_URLCONF = "chat.asgi_urls"
