"""The URLs under ASGI: the streams are async, all other views run in threads as before."""

from django.urls import path

from chat import urls, views

urlpatterns = [
    path("chats/<chat>/stream", views.stream_async),
    path("chats/<chat>/turns/<turn_id>/events", views.events_async),
    *urls.urlpatterns,
]
