"""Towers: those that were trained, the verdict on each, its report; which one goes live is asked for here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from twinvec_client import Tower, TowerChange, UnknownTower
from twinvec_client.contract.limits import MAX_TOWER
from web import forms
from web.rendering import render
from web.site import Site, site_of

RECIPES = ("quick", "default", "notebook", "conv", "best")
MEASURES = {  # of a tower's metrics: 1 is perfect
    "pair_accuracy": "pairs told apart",
    "nearest_1": "nearest of the right digit",
    "recall_10": "right digit among 10",
    "map_at_r": "MAP@R",
}
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"


async def listed(request: Request) -> Response:
    site = site_of(request)
    return render(
        request, "towers.html", towers=await site.tv.towers(), measures=MEASURES, recipes=RECIPES, **await _work(site)
    )


async def one(request: Request) -> Response:
    """A tower with its verdict; the question before each change names what it would change."""
    site = site_of(request)
    towers = await site.tv.towers()
    tower = _find(towers, request)
    return render(
        request,
        "tower.html",
        tower=tower,
        live=next((each for each in towers if each.status == "live"), None),
        previous=next((each for each in towers if each.status == "previous"), None),
        measures=MEASURES,
        can_report=site.report is not None,
        **await _work(site),
    )


async def report(request: Request) -> Response:
    """The tower's own page, made here; it stands in a sandbox, and runs nothing."""
    site = site_of(request)
    tower = _find(await site.tv.towers(), request)
    if site.report is None:
        raise HTTPException(404, "This page makes no reports: run `twinvec report` where the database is reached.")
    make = site.report
    page = await site.reports.get(tower.fingerprint, lambda: make(tower.id))
    return Response(page, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


async def promote(request: Request, form: FormData) -> Response:
    change = await site_of(request).tv.promote(_id(request), force=forms.text(form, "force") == "1")
    return _changed(request, change)


async def roll_back(request: Request, form: FormData) -> Response:
    return _changed(request, await site_of(request).tv.rollback(at_once=forms.text(form, "at_once") == "1"))


async def retire(request: Request, form: FormData) -> Response:
    return _changed(request, await site_of(request).tv.retire(_id(request)))


async def train(request: Request, form: FormData) -> Response:
    """Train a tower and let it go live where it is no worse."""
    recipe = forms.required(form, "recipe")
    site = site_of(request)
    job = await site.tv.retrain(recipe=recipe, data="mnist", started_by=f"{site.by}, on the page"[:200])
    site.lists.forget("jobs")
    return RedirectResponse(f"/jobs/{job.id}", 303)


async def _work(site: Site) -> dict[str, Any]:
    """Backfills that go on."""
    return {"backfills": (await site.tv.backfill()).running}


def _changed(request: Request, change: TowerChange) -> Response:
    return render(request, "tower_changed.html", change=change)


def _id(request: Request) -> int:
    return forms.integer(str(request.path_params["id"]), "tower", 1, MAX_TOWER)


def _find(towers: list[Tower], request: Request) -> Tower:
    """Raises UnknownTower."""
    id = _id(request)
    for tower in towers:
        if tower.id == id:
            return tower
    raise UnknownTower


ROUTES: Sequence[Route] = (
    Route("/towers", listed),
    forms.post("/towers", train),
    forms.post("/towers/roll-back", roll_back),
    Route("/towers/{id}", one),
    Route("/towers/{id}/report", report),
    forms.post("/towers/{id}/promote", promote),
    forms.post("/towers/{id}/retire", retire),
)
