"""Recipes: how a tower is trained, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one training does. margin: of the contrastive loss. threshold: the distance that splits same from
    different when pair accuracy is counted."""

    name: str
    epochs: int
    batch_size: int  # pairs
    margin: float
    learning_rate: float
    threshold: float


NOTEBOOK = Recipe(name="notebook", epochs=5, batch_size=32, margin=1.0, learning_rate=1e-3, threshold=0.5)

RECIPES = {recipe.name: recipe for recipe in (NOTEBOOK,)}
