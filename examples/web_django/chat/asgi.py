"""What an ASGI server loads: `uvicorn chat.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat.asgi_settings")
application = get_asgi_application()
