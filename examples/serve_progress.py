"""Serve the progress of jobs to browsers as server-sent events: `new EventSource("/jobs/ID")` receives each status.

TWINVEC_BROKER_URL=redis://localhost:6379/0 uvicorn --app-dir examples serve_progress:app
curl --data-binary @scan.png localhost:8000/digits/scan-1
curl --no-buffer localhost:8000/jobs/ID
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from twinvec_client import AsyncTwinvec, UnknownJob

tv = AsyncTwinvec(os.environ.get("TWINVEC_BROKER_URL", "redis://localhost:6379/0"))


async def embed(request: Request) -> Response:
    """Take a picture, store it under the key in the path, and say which job embeds it."""
    job = await tv.embed({request.path_params["key"]: await request.body()}, collection="uploads")
    return JSONResponse({"job": job.id}, status_code=202)


async def follow(request: Request) -> Response:
    """A stream of the job's statuses, which ends with the final one, or when the browser goes."""
    job = await tv.job(request.path_params["id"])

    async def events() -> AsyncIterator[str]:
        async for status in job.follow():
            yield f"data: {json.dumps(asdict(status))}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def unknown(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=404)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with tv:
        yield


app = Starlette(
    routes=[Route("/digits/{key}", embed, methods=["POST"]), Route("/jobs/{id}", follow)],
    exception_handlers={UnknownJob: unknown},
    lifespan=lifespan,
)
