"""The URLs under ASGI: the stream is async, all other views run in threads as before."""

from django.urls import path

from chat import urls, views

urlpatterns = [path("chats/<chat>/turns/<turn_id>/events", views.events_async), *urls.urlpatterns]
