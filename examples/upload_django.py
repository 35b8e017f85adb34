"""A Django application that embeds a picture when it is uploaded, and shows its nearest neighbours. One file.

TWINVEC_BROKER_URL=redis://localhost:6379/0 python upload_django.py runserver
curl --data-binary @7.png http://localhost:8000/digits/cheque-17
curl http://localhost:8000/digits/cheque-17/neighbours
"""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from twinvec_client import NotEmbedded, Twinvec, UnknownKey

COLLECTION = "uploads"

if not settings.configured:
    settings.configure(
        DEBUG=True,
        SECRET_KEY=os.environ.get("SECRET_KEY", "for development alone"),
        ALLOWED_HOSTS=["localhost", "testserver"],
        ROOT_URLCONF=__name__,
    )
    django.setup()

# One for all threads, also of a server that forks. A test puts a fake in its place.
tv = Twinvec(os.environ.get("TWINVEC_BROKER_URL", "redis://localhost:6379/0"))


@csrf_exempt
def upload(request: HttpRequest, key: str) -> JsonResponse:
    # Where Twinvec's database is the application's own: `submit(connection, {key: request.body})` in its transaction.
    job = tv.embed({key: request.body}, collection=COLLECTION)
    return JsonResponse({"job": job.id}, status=202)


def neighbours(request: HttpRequest, key: str) -> JsonResponse:
    try:
        answer = tv.nearest(key=key, k=5, collection=COLLECTION)
    except UnknownKey:
        return JsonResponse({"error": "no such picture"}, status=404)
    except NotEmbedded:
        return JsonResponse({"error": "not embedded yet: try again in a moment"}, status=409)
    return JsonResponse([{"key": each.key, "distance": each.distance} for each in answer], safe=False)


urlpatterns = [path("digits/<str:key>", upload), path("digits/<str:key>/neighbours", neighbours)]
application = WSGIHandler()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
