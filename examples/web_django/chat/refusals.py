"""The responses to requests that cannot be carried out."""

import logging
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse

from sessions import SessionfleetError, errors

LOG = logging.getLogger("django.request")
STATUS_OF: dict[type[Exception], int] = {  # the first match counts
    errors.MessageTooLarge: 413,
    errors.InvalidWebhook: 400,
    errors.BadRequest: 422,
    errors.SessionOwnerError: 403,
    errors.TurnNotFound: 404,
    errors.IdempotencyConflict: 409,
    errors.StaleCursor: 409,
    errors.SessionBusy: 429,
    errors.BackendError: 503,
}


class RefusalMiddleware:
    """Turns Sessionfleet's errors into responses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        """The response to an error of a view; None leaves other errors to Django."""
        if not isinstance(error, SessionfleetError):
            return None
        status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
        text = str(error)
        if status >= 500:  # the operators read the reason, visitors need not
            LOG.error("request failed: %s", error)
            text = "not possible now; try again shortly"
        headers = {"Retry-After": "2"} if status in (429, 503) else {}
        return JsonResponse({"error": text}, status=status, headers=headers)
