"""Django, all in one file: `gunicorn django_app:wsgi` or `uvicorn django_app:asgi`.

In a project of several files the tracker goes to the top of the module that uses it, such as
`views.py`.
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from pipeline import Tracker

# At the top of the module: each process has its own, which is sent when the process ends.
tracker = Tracker()

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="an example")
django.setup()


def product(request: HttpRequest, product: str) -> HttpResponse:
    """A page that tracks its visitors."""
    tracker.track("product_view", properties={"product_id": product})
    return HttpResponse(f"Product {product}")


urlpatterns = [path("products/<product>", product)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
