"""An application of Django that tracks its requests, for WSGI and for ASGI."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.helpers.applications.tracked import track

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="tests")
django.setup()


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(track(request.GET["user"]))


urlpatterns = [path("", page)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
