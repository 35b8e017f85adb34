"""A report on two towers that are trained in a second or two, for tests of what is made of it."""

from dataclasses import replace

from training.data.dataset import Dataset
from training.fit.train import train
from training.recipes import NOTEBOOK, QUICK
from training.report.facts import Report, Tower
from training.report.measuring import digits_of, layers_of, measure

REASONS = [
    {"name": "complete", "live": None, "candidate": None, "tolerance": None, "passed": True, "said": "nothing is due"},
    {
        "name": "pair_accuracy",
        "live": 0.98,
        "candidate": 0.91,
        "tolerance": 0.002,
        "passed": False,
        "said": "on held-out digits it is worse by 0.0700",
    },
]


def report_on(data: Dataset) -> Report:
    """Two towers side by side, of which the second was judged."""
    towers = [_tower(data, at) for at in (0, 1)]
    return Report(
        towers=towers,
        digits=digits_of(data, drawn=True, seed=0),
        left_out=["nothing else"],
        made_at="2026-01-31 12:00 UTC",
    )


def _tower(data: Dataset, at: int) -> Tower:
    recipe = (replace(NOTEBOOK, epochs=1), replace(QUICK, epochs=1))[at]
    trained = train(recipe, data, seed=1)
    return Tower(
        name=f"tower {at + 1}",
        fingerprint=trained.fingerprint,
        about={"status": "live", "recipe": f"{recipe.name}, seed 1"},
        metrics=trained.metrics,
        history=trained.history,
        threshold=trained.threshold,
        verdict={"passed": False, "reasons": REASONS, "forced_by": "an operator"} if at else None,
        layers=layers_of(trained.tower),
        drawn=recipe.pairs == "drawn",
        measured=measure(trained.tower, data, threshold=trained.threshold, seed=1),
    )
