"""Jobs: the latest, one with its progress, what failed of it and why, and batches that are not tried any more."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from twinvec_client import AsyncEmbedJob, AsyncTrainingJob, Failure, JobStatus, NoTower, PictureRefused
from web import forms
from web.errors import explain
from web.remedies import remedy
from web.rendering import png, render, url
from web.site import Site, site_of

LATEST = 50
A_PAGE = 20  # failures
STAGES = ("waiting", "training", "backfill", "judging", "live")  # of a retraining that ends well
UNSAFE = ("too_many_pixels", "too_costly", "poison")  # what costs whoever decodes it too much
_GAVE_WAY = ("superseded", "duplicate_key")
_SHOWN = {  # what browsers draw, by its first bytes
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


async def latest(request: Request) -> Response:
    site = site_of(request)
    jobs = await site.lists.get("jobs", lambda: site.tv.jobs(limit=LATEST))
    rows = [(job, site.rates.of(job)) for job in jobs]
    return render(request, "jobs.html", part="_jobs.html", jobs=rows)


async def one(request: Request) -> Response:
    """A job; the script asks for its changing part again and again, until it has ended."""
    site = site_of(request)
    status = await site.tv.job(_id(request))
    job = await status.status()
    context: dict[str, Any] = {
        "job": job,
        "pace": site.rates.of(job),
        "stages": STAGES,
        "reached": STAGES.index(job.stage.name) if job.stage and job.stage.name in STAGES else None,
    }
    ended = job.final and request.headers.get("hx-request")
    headers = {"hx-refresh": "true"} if ended else None  # its buttons are others now
    return render(request, "job.html", part="_job.html", headers=headers, **context)


async def failures(request: Request) -> Response:
    """Some of what failed, by key."""
    job = await _embed_job(site_of(request), _id(request))
    after, found = request.query_params.get("after", ""), list[Failure]()
    async with aclosing(job.failures(after=after)) as each:  # type: ignore[type-var]  # it is a generator
        async for failure in each:
            found.append(failure)
            if len(found) > A_PAGE:
                break
    page = [(failure, remedy(failure.reason)) for failure in found[:A_PAGE]]
    status = await job.status()
    return render(
        request,
        "failures.html",
        job=status,
        failures=page,
        next=found[A_PAGE - 1].key if len(found) > A_PAGE else None,
        first=not after,
        again=any(failure.reason not in _GAVE_WAY for failure in found),
    )


class Seen(NamedTuple):
    """A failure's picture. kept: whether it is; shown: whether a browser can draw it, and may. made: the 784 pixels
    that workers make of it, with what is said of them, or why there are none."""

    failure: Failure
    kept: bool
    shown: bool
    made: bytes | None
    said: str


async def picture(request: Request) -> Response:
    """What was sent under a key, beside what workers make of it: looked up again, now."""
    job, key = await _embed_job(site_of(request), _id(request)), request.query_params.get("key", "")
    failure = await _failure(job, key, request.query_params.get("reason"))
    made, said = await _made(site_of(request), failure)
    shown = failure.is_glyph or (failure.reason not in UNSAFE and _kind(failure.picture or b"") is not None)
    seen = Seen(failure, failure.picture is not None, shown, made, said)
    return render(request, "picture.html", part="_picture.html", job=job.id, seen=seen)


async def sent(request: Request) -> Response:
    """The very bytes that were sent under a key, for an `<img>`, or to be saved. They run nothing and load nothing."""
    job, key = await _embed_job(site_of(request), _id(request)), request.query_params.get("key", "")
    failure = await _failure(job, key, request.query_params.get("reason"))
    if failure.picture is None:
        raise HTTPException(404, "The picture was not kept.")
    headers = {"content-security-policy": "default-src 'none'; sandbox"}
    if failure.is_glyph:
        return Response(png(failure.picture), media_type="image/png", headers=headers)
    kind = None if failure.reason in UNSAFE else _kind(failure.picture)
    if kind is None:
        headers["content-disposition"] = 'attachment; filename="picture"'
    return Response(failure.picture, media_type=kind or "application/octet-stream", headers=headers)


async def retry(request: Request, form: FormData) -> Response:
    """Send again what failed, as a new job."""
    again = await (await _embed_job(site_of(request), _id(request))).retry()
    return _to(again.id, request)


async def cancel(request: Request, form: FormData) -> Response:
    job = await site_of(request).tv.job(_id(request))
    await job.cancel()
    return _to(job.id, request)


async def pause(request: Request, form: FormData) -> Response:
    id = _id(request)
    await site_of(request).tv.pause(job=id, why=forms.text(form, "why") or None)
    return _to(id, request)


async def resume(request: Request, form: FormData) -> Response:
    id = _id(request)
    await site_of(request).tv.resume(job=id)
    return _to(id, request)


async def stop(request: Request, form: FormData) -> Response:
    """End a training early, with the best tower so far."""
    job = await site_of(request).tv.job(_id(request))
    if not isinstance(job, AsyncTrainingJob):
        raise HTTPException(400, "This job is not a training: cancel it instead.")
    await job.stop()
    return _to(job.id, request)


async def dead(request: Request) -> Response:
    return render(request, "dead.html", batches=await site_of(request).tv.dead_batches())


async def requeue(request: Request, form: FormData) -> Response:
    job = await site_of(request).tv.requeue(forms.integer(forms.text(form, "batch"), "batch", 1, 2**63 - 1))
    return _to(job.id, request)


def _to(job: str, request: Request) -> Response:
    site_of(request).lists.forget("jobs")
    return RedirectResponse(f"/jobs/{job}", 303)


def _id(request: Request) -> str:
    return str(request.path_params["id"])


async def _embed_job(site: Site, id: str) -> AsyncEmbedJob:
    job = await site.tv.job(id)
    if not isinstance(job, AsyncEmbedJob):
        raise HTTPException(404, "A training has no pictures.")
    return job


async def _failure(job: AsyncEmbedJob, key: str, reason: str | None) -> Failure:
    found = await job.failures_of(key)
    return next((each for each in found if each.reason == reason), found[0])


async def _made(site: Site, failure: Failure) -> tuple[bytes | None, str]:
    """The 28x28 pixels that are made of a picture now, and what is said of that."""
    if failure.picture is None:
        return None, "The picture was not kept."
    if failure.is_glyph:
        return failure.picture, "as it was read"
    if failure.reason in UNSAFE:
        return None, "It is not read again: that costs too much, or ended a process."
    for normalise, said in ((True, "It is read now: retry, and it is stored."), (False, "resized, no more")):
        try:
            answer = await site.tv.nearest(failure.picture, k=1, pictures=True, normalise=normalise)
        except PictureRefused as error:
            why = explain(str(error))[0]
        except NoTower as error:
            return None, str(error)
        else:
            return answer.glyph, said
    return None, why


def _kind(picture: bytes) -> str | None:
    """Its media type, by its first bytes, where browsers draw it."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _SHOWN.items() if picture.startswith(start)), None)


def link_of(job: JobStatus) -> str:
    """Where its failures are."""
    return url(f"/jobs/{uuid.UUID(job.id)}/failures")


ROUTES: Sequence[Route] = (
    Route("/jobs", latest),
    Route("/jobs/dead", dead),
    forms.post("/jobs/dead", requeue),
    Route("/jobs/{id}", one),
    Route("/jobs/{id}/failures", failures),
    Route("/jobs/{id}/failures/picture", picture),
    Route("/jobs/{id}/failures/sent", sent),
    forms.post("/jobs/{id}/retry", retry),
    forms.post("/jobs/{id}/cancel", cancel),
    forms.post("/jobs/{id}/pause", pause),
    forms.post("/jobs/{id}/resume", resume),
    forms.post("/jobs/{id}/stop", stop),
)
