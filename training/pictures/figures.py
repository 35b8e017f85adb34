"""Which components of a mask are the digit: not the ring around it, the hole, the line or the comma beside it.

It knows where components lie and their form, not grey levels.
"""

from __future__ import annotations

from training.arrays import AnyArray
from training.pictures.components import DIRT, Box, Component, Components
from training.pictures.forms import inside_of, is_bar, is_disc

MOST = 12  # components that are looked at, the largest
LARGE = 96  # pixels of a picture's side; in a smaller one a digit itself often lies at the edge
INNER = 0.25  # of a ring's longer side that what is inside has at least
RING = 0.5  # of its box that a ring's ink fills at most
AT_EDGE = 0.3  # of the longer side of what lies at the edge that what does not has at least
TALL = 0.55  # of the tallest figure's height that another digit has

Figure = list[Component]


def figures(components: Components) -> tuple[Figure, list[Figure]]:
    """The components of the digit; and all figures that stand side by side as digits do, if there are several."""
    labels, total = components.labels, components.pixels
    found = [each for each in components.largest(MOST) if each.pixels >= DIRT * total]
    if not found:
        return [], []
    while (within := inside_ring(labels, found)) != found:  # a circle may be in a frame
        found = within
    kept = [each for each in found if not is_beside(labels, each, [other for other in found if other is not each])]
    if not kept:
        return [], []
    groups = grouped(kept)
    main = max(groups, key=lambda group: sum(each.pixels for each in group))
    several = [group for group in groups if stand_together(group, main)]
    return main, several if len(several) > 1 else []


def inside_ring(labels: AnyArray, found: list[Component]) -> list[Component]:
    """What the longest component is drawn around, if that is something; else all."""
    ring = max(found, key=lambda each: each.box.longer)
    box = ring.box
    if ring.pixels > RING * box.height * box.width:
        return found
    candidates = [each for each in found if each is not ring and box.holds(each.box)]
    if not candidates or max(each.box.longer for each in candidates) < INNER * box.longer:
        return found
    filled, part = inside_of(labels[box.slices] == ring.label), labels[box.slices]
    within = [each for each in candidates if filled[part == each.label].all()]
    return within if within and max(each.box.longer for each in within) >= INNER * box.longer else found


def is_beside(labels: AnyArray, component: Component, others: list[Component]) -> bool:
    """Whether a component is something else than a digit's part: at the picture's edge, a hole, a printed bar."""
    if not others:
        return False
    box, other = component.box, max((each.box for each in others), key=lambda each: each.longer)
    inner = max((each.box.longer for each in others if not is_at_edge(each.box, labels.shape)), default=0)
    if is_at_edge(box, labels.shape) and inner >= (AT_EDGE if max(labels.shape) >= LARGE else 1.0) * box.longer:
        return True
    if is_disc(component) and other.longer >= 1.2 * box.longer and gap(box, other) > 0.1 * other.longer:
        return True
    if other.longer < AT_EDGE * box.longer or not is_bar(labels[box.slices] == component.label):
        return False
    is_above = box.bottom <= other.top + 0.3 * other.height  # the bar of a 5 that does not touch its bow
    return not (is_above and box.width <= 1.1 * other.width and gap(box, other) <= 0.15 * other.height)


def is_at_edge(box: Box, shape: tuple[int, ...]) -> bool:
    return box.top <= 1 or box.left <= 1 or box.bottom >= shape[0] - 1 or box.right >= shape[1] - 1


def grouped(components: list[Component]) -> list[Figure]:
    """Components that make one figure: one above the other, or nearly touching."""
    groups: list[Figure] = []
    for component in components:
        near = [group for group in groups if any(belong(component.box, other.box) for other in group)]
        joined = [component, *(each for group in near for each in group)]
        groups = [*(group for group in groups if group not in near), joined]
    return groups


def belong(one: Box, other: Box) -> bool:
    """Whether two boxes are of one figure."""
    small, main = sorted((one, other), key=lambda box: box.longer)
    apart = gap(small, main) / main.longer
    if min(one.right, other.right) - max(one.left, other.left) >= 0.3 * min(one.width, other.width):
        return apart <= 0.35
    is_high = small.longer < 0.6 * main.longer and small.top + small.bottom < main.top + main.bottom  # no comma
    return apart <= (0.2 if is_high else 0.06)


def gap(one: Box, other: Box) -> int:
    """Pixels between two boxes, along the farther axis."""
    down = max(one.top, other.top) - min(one.bottom, other.bottom)
    across = max(one.left, other.left) - min(one.right, other.right)
    return max(down, across, 0)


def stand_together(group: Figure, main: Figure) -> bool:
    """Whether a figure is about as tall as the main one, and beside it."""
    (top, bottom), (main_top, main_bottom) = span(group), span(main)
    height, common = bottom - top, min(bottom, main_bottom) - max(top, main_top)
    return height >= TALL * (main_bottom - main_top) and common >= 0.5 * min(height, main_bottom - main_top)


def span(group: Figure) -> tuple[int, int]:
    return min(each.box.top for each in group), max(each.box.bottom for each in group)
