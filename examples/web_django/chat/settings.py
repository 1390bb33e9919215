"""Settings of a site that is only a chat: no database, visitors are in signed cookies."""

import os
from pathlib import Path

SECRET_KEY = os.environ["SECRET_KEY"]  # the same for all processes, or they do not recognise each other's visitors
DEBUG = False
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
ROOT_URLCONF = "chat.urls"
WSGI_APPLICATION = "chat.wsgi.application"
INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chat.refusals.RefusalMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
CSRF_TRUSTED_ORIGINS = os.environ.get("TRUSTED_ORIGINS", "").split()  # https://..., if a proxy terminates https for it
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = "SECURE_COOKIES" in os.environ  # set it if the browser uses https
DEFAULT_CHARSET = "utf-8"
USE_TZ = True
TIME_ZONE = "UTC"

PAGE = Path(__file__).parents[2] / "web_page"
CHAT_TOOLS = os.environ.get("CHAT_TOOLS", "").split()  # names of tools that the workers know
WEBHOOK_URL = os.environ.get("WEBHOOK_URL")  # where workers reach `/webhooks` of this site; None: no webhooks
WEBHOOK_SECRET = os.environ.get("WEBHOOK_SECRET", "")  # what `sessionfleet keys webhook` prints
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 << 20  # a webhook contains the complete answer
LOGGING = {  # without DEBUG Django logs nothing to the console
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
