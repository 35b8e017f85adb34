"""A report as one HTML page that asks for nothing: no script, its pictures and styles inside it.

It must not know where its facts come from, nor compute any.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.arrays import Uint8
from training.fit.evaluation import MEASURES
from training.report import charts
from training.report.facts import Comparison, Digits, Measured, Neighbourhood, Pair, Report, Tower

_SHADES = 16  # of a glyph: from paper to ink
_PAPER, _INK = (247, 251, 255), (8, 48, 107)  # the ends of ColorBrewer's Blues, as the notebook has them
_STYLE = Path(__file__).with_name("style.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # a browser holds the page to it


def page(report: Report) -> str:
    """The whole page, as text."""
    names = " and ".join(tower.name for tower in report.towers)
    parts = [f"<header><h1>Report on {escape(names)}</h1><p class='dim'>made {escape(report.made_at)}</p></header>"]
    parts.append(_each("What it is", report.towers, _about))
    if any(tower.verdict for tower in report.towers):
        parts.append(_each("Verdict", report.towers, _verdict))
    parts.append(_section("Figures", _metrics(report.towers), "As its training measured them on the test images."))
    if report.digits is not None:
        parts += _digits(report.digits)
    parts.append(_each("Architecture", report.towers, _architecture))
    parts.append(_each("Loss and accuracy by epoch", report.towers, _curves))
    parts += _measured(report.towers)
    parts.append(_each("Confusion", report.towers, _confusion))
    if report.left_out:
        parts.append(
            _section("Left out", f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in report.left_out)}</ul>")
        )
    columns = "two" if len(report.towers) == 2 else "one"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Twinvec: {escape(names)}</title><style>{_STYLE.read_text()}</style></head>"
        f'<body class="{columns}"><main>{"".join(filter(None, parts))}</main></body></html>\n'
    )


def _section(title: str, inside: str, about: str = "") -> str:
    said = f"<p class='dim'>{about}</p>" if about else ""
    return f"<section><h2>{escape(title)}</h2>{said}{inside}</section>"


def _each(title: str, towers: Sequence[Tower], draw: Callable[[Tower], str | None], about: str = "") -> str:
    """A section with a column for each tower; nothing where none has anything to show."""
    drawn = [draw(tower) for tower in towers]
    if not any(drawn):
        return ""
    several = len(towers) > 1
    columns = [
        f"<div class='card'>{f'<h3>{escape(tower.name)}</h3>' if several else ''}{inside or _NOTHING}</div>"
        for tower, inside in zip(towers, drawn, strict=True)
    ]
    return _section(title, f"<div class='columns'>{''.join(columns)}</div>", about)


_NOTHING = "<p class='dim'>not known of this tower</p>"


def _about(tower: Tower) -> str:
    rows = {"fingerprint": tower.fingerprint, **tower.about, "threshold": f"{tower.threshold:.3f}"}
    return (
        "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items()) + "</dl>"
    )


def _verdict(tower: Tower) -> str | None:
    if tower.verdict is None:
        return None
    passed = bool(tower.verdict.get("passed"))
    forced = tower.verdict.get("forced_by")
    head = f"<p><b class='{'right' if passed else 'wrong'}'>{'passed' if passed else 'not passed'}</b>"
    live, at = tower.verdict.get("live"), tower.verdict.get("judged_at")
    head += f" against tower {escape(str(live))}" if live is not None else ""
    head += f", {escape(str(at)[:16].replace('T', ' '))}" if at else ""
    head += f"; asked for all the same by {escape(str(forced))}</p>" if forced else "</p>"
    return head + f"<ul class='reasons'>{''.join(map(_reason, tower.verdict.get('reasons', ())))}</ul>"


def _reason(reason: Mapping[str, Any]) -> str:
    mark = "<b class='right'>\N{CHECK MARK}</b>" if reason.get("passed") else "<b class='wrong'>\N{BALLOT X}</b>"
    figures = [
        f"{name} {reason[name]:.4g}"
        for name in ("live", "candidate", "tolerance")
        if isinstance(reason.get(name), int | float)
    ]
    said = f"<span class='dim'> {escape(', '.join(figures))}</span>" if figures else ""
    name = escape(str(reason.get("name", "")).replace("_", " "))
    return f"<li>{mark} <b>{name}</b>: {escape(str(reason.get('said', '')))}{said}</li>"


def _metrics(towers: Sequence[Tower]) -> str:
    """A row a measure; where two are compared, the better one is bold."""
    head = "".join(f"<th>{escape(tower.name)}</th>" for tower in towers)
    rows = []
    for name, title in MEASURES.items():
        values = [tower.metrics.get(name) for tower in towers]
        if all(value is None for value in values):
            continue
        best = max(value for value in values if value is not None) if len(towers) > 1 else None
        rows.append(f"<tr><td>{escape(title.long)}</td>{''.join(_figure(value, best) for value in values)}</tr>")
    if all(tower.measured is not None for tower in towers):
        shares = [tower.measured.right for tower in towers if tower.measured is not None]
        best = max(shares) if len(towers) > 1 else None
        rows.append(
            f"<tr><td>pairs shown here, at the threshold</td>{''.join(_figure(each, best) for each in shares)}</tr>"
        )
    return f"<div class='scroll'><table class='figures'><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"


def _figure(value: float | None, best: float | None) -> str:
    if value is None:
        return "<td></td>"
    shown = f"{value:.4f}"
    return f"<td><b>{shown}</b></td>" if value == best else f"<td>{shown}</td>"


def _digits(digits: Digits) -> Iterable[str]:
    first = "".join(_captioned(glyph, str(label)) for glyph, label in digits.first)
    yield _section("The first digits", f"<div class='glyphs'>{first}</div>", escape(digits.source))
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})</td></tr>"
        for name, shape in digits.shapes.items()
    )
    yield _section("Shapes", f"<table class='figures'>{rows}</table>")
    pairs = "".join(_pair(pair, "") for pair in digits.pairs)
    yield _section("Pairs", f"<div class='pairs'>{pairs}</div>", "Two images each, of one digit or of two.")


def _architecture(tower: Tower) -> str | None:
    if tower.layers is None:
        return None
    return charts.architecture(tower.layers, pixels=784, drawn=tower.drawn, title=f"Architecture of {tower.name}")


def _curves(tower: Tower) -> str | None:
    drawn = []
    for name, title in (("loss", "contrastive loss"), ("binary_accuracy", "pair accuracy")):
        named = {key: tower.history[key] for key in (name, f"val_{name}") if tower.history.get(key)}
        if named:
            of_test = "<i class='key test'></i> test pairs" if len(named) == 2 else ""
            keys = f"<p class='keys'><b>{title}</b> <i class='key training'></i> training pairs {of_test}</p>"
            drawn.append(keys + charts.curves(named, title=f"{title} of {tower.name}"))
    return "".join(drawn) or None


def _measured(towers: Sequence[Tower]) -> Iterable[str]:
    """What was measured on the digits."""

    def each(title: str, draw: Callable[[Tower, Measured], str], about: str) -> str:
        return _each(
            title, towers, lambda tower: None if tower.measured is None else draw(tower, tower.measured), about
        )

    right, wrong = "<b class='right'>green</b>", "<b class='wrong'>red</b>"
    yield each(
        "Judged pairs",
        lambda tower, found: f"<div class='pairs'>{_judged(found.judged, tower.threshold)}</div>",
        f"Pairs of test images over their distance: below the threshold they are judged same. {right}: rightly judged, "
        f"{wrong}: wrongly.",
    )
    yield each(
        "Two of one digit, and another",
        lambda tower, found: _comparison(found.comparison, tower.threshold),
        "Two of the same should be near each other, and both far from the third.",
    )
    yield each(
        "Distances",
        lambda tower, found: (
            "<p class='keys'><i class='key same'></i> same pairs <i class='key different'></i> different pairs</p>"
            + charts.histogram(found.histogram, tower.threshold, title=f"Distances under {tower.name}")
        ),
        "Of all pairs of test images, the share of each kind. The last column holds all that is farther.",
    )
    yield each(
        "On a plane",
        lambda tower, found: (
            charts.plane(found.plane, title=f"Vectors of {tower.name} on a plane")
            + "<p class='dim'>{:.0%} and {:.0%} of the variance along x and y</p>".format(*found.plane.explained)
        ),
        "Test images by their first two principal components, coloured by digit.",
    )
    yield each(
        "Neighbours",
        lambda tower, found: f"<div class='gallery'>{''.join(map(_neighbourhood, found.gallery))}</div>",
        "Test images, each beside its nearest training images and their distances. Up to half of them were chosen "
        f"because the nearest one is wrong. {right}: of the same digit, {wrong}: of another.",
    )


def _judged(pairs: Sequence[Pair], threshold: float) -> str:
    return "".join(
        _pair(pair, "right" if (pair.distance < threshold) == pair.same else "wrong")
        for pair in pairs
        if pair.distance is not None
    )


def _pair(pair: Pair, judged: str) -> str:
    said = "same" if pair.same else "different"
    distance = "" if pair.distance is None else f"<span class='dim'>{pair.distance:.3f}</span>"
    pictures = _glyph(pair.one, "one") + _glyph(pair.other, "other")
    return f"<figure class='pair'><figcaption class='title {judged}'>{said}</figcaption>{pictures}{distance}</figure>"


def _comparison(found: Comparison, threshold: float) -> str:
    pictures = "".join(_captioned(glyph, str(label)) for glyph, label in zip(found.glyphs, found.labels, strict=True))
    rows = []
    for edge in found.edges:
        one, other = found.labels[edge.one], found.labels[edge.other]
        judged = "right" if (edge.distance < threshold) == (one == other) else "wrong"
        named = f"{_NTH[edge.one]} ({one}) to {_NTH[edge.other]} ({other})"
        rows.append(f"<tr><td>{named}</td><td><b class='{judged}'>{edge.distance:.4f}</b></td></tr>")
    return f"<div class='glyphs three'>{pictures}</div><table class='figures'>{''.join(rows)}</table>"


_NTH = ("first", "second", "third")


def _neighbourhood(found: Neighbourhood) -> str:
    near = "".join(
        _captioned(
            each.glyph, f"{each.label} \N{MIDDLE DOT} {_short(each.distance)}", _agreeing(each.label, found.label)
        )
        for each in found.neighbours
    )
    return f"<div class='row'>{_captioned(found.glyph, str(found.label), 'asked')}{near}</div>"


def _short(distance: float) -> str:
    """Three places, or two from 1 on: `.034`."""
    return f"{distance:.3f}".removeprefix("0") if distance < 1 else f"{distance:.2f}"


def _agreeing(label: int, other: int) -> str:
    return "right" if label == other else "wrong"


def _confusion(tower: Tower) -> str | None:
    """A row a label: how often its test images were nearest to each label; off the diagonal, the redder the more."""
    found = tower.metrics.get("confusion")
    if found is None:
        return None
    labels, counts = found["labels"], np.array(found["counts"])
    off = counts - np.diag(np.diag(counts))
    head = "".join(f"<th>{label}</th>" for label in labels)
    rows = []
    for at, label in enumerate(labels):
        cells = []
        for to, count in enumerate(counts[at].tolist()):
            if at == to:
                cells.append(f"<td class='hit'>{count}</td>")
            elif count:
                cells.append(f"<td style='--share:{round(100 * count / max(off.max(), 1))}%' class='miss'>{count}</td>")
            else:
                cells.append("<td></td>")
        rows.append(f"<tr><th>{label}</th>{''.join(cells)}</tr>")
    about = "<p class='dim'>A row a digit: how often its test images were nearest to each.</p>"
    return f"{about}<div class='scroll'><table class='confusion'><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"


def _captioned(glyph: Uint8, caption: str, kind: str = "") -> str:
    return f"<figure class='{kind}'>{_glyph(glyph, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _glyph(glyph: Uint8, about: str) -> str:
    return f'<img class="glyph" width="28" height="28" alt="{escape(about)}" src="{_picture(glyph.tobytes())}">'


@cache
def _picture(pixels: bytes) -> str:
    """(28, 28) uint8 -> a data URL of a PNG, in shades from paper to ink."""
    shades = np.frombuffer(pixels, np.uint8).reshape(28, 28) // (256 // _SHADES)
    steps = np.linspace(_PAPER, _INK, _SHADES).round().astype(np.uint8)
    picture = Image.fromarray(shades, "P")
    picture.putpalette(steps.tobytes())
    written = BytesIO()
    picture.save(written, "PNG", bits=4, optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
