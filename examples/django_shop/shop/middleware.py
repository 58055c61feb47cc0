"""Track each page that is shown."""

from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse

from pipeline import Tracker

tracker = Tracker()


def track_page_views(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware that gives each browser a random id, the user id of its events."""

    def middleware(request: HttpRequest) -> HttpResponse:
        visitor = request.session.setdefault("visitor", uuid4().hex)
        response = get_response(request)
        if request.method == "GET" and response.status_code == 200:
            tracker.track("page_view", user_id=visitor, properties={"path": request.path})
        return response

    return middleware
