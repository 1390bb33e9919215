"""The URLs."""

from django.conf import settings
from django.urls import path
from django.views.static import serve

from chat import views

urlpatterns = [
    path("", views.page),
    path("page/<path:path>", serve, {"document_root": settings.PAGE}),  # in production: nginx or whitenoise
    path("chats/<chat>/messages", views.messages),
    path("chats/<chat>/stream", views.stream),
    path("chats/<chat>/turns/<turn_id>", views.answer),
    path("chats/<chat>/turns/<turn_id>/events", views.events),
    path("chats/<chat>/turns/<turn_id>/cancel", views.cancel),
    path("chats/<chat>/webhooks", views.webhook_log),
    path("webhooks", views.receive_webhook),
]
