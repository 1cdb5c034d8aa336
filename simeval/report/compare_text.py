"""How a comparison is written: text, Markdown and LaTeX for people, CSV and JSON for programs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from simeval.errors import unknown_name
from simeval.files import json_text
from simeval.report.compare import SECURE, Comparison, Flip, Row
from simeval.report.summary import ALL, success_metric
from simeval.report.tables import MISSING, Grid, csv_text, header_of, is_rate, latex, markdown, plain_text

FORMATS = ("text", "md", "csv", "json", "latex")


def render_comparison(found: Comparison, format: str = "text") -> str:
    """Return a comparison as text.

    Args:
        found: what `compare_sides` gave.
        format: "text", "md", "latex": tables and notes; "csv": the rows; "json": everything.

    Raises:
        SettingError: no such format.
    """
    writers: dict[str, Callable[[], str]] = {
        "text": lambda: plain_text(_grids(found), notes(found)),
        "md": lambda: markdown(_grids(found), "\n".join(f"- {note}" for note in notes(found))),
        "latex": lambda: latex(_grids(found), " ".join(notes(found))),
        "csv": lambda: csv_text(found.rows, Row),
        "json": lambda: json_text(asdict(found)),
    }
    if format not in writers:
        raise unknown_name("format", format, FORMATS)
    return writers[format]()


def notes(found: Comparison) -> list[str]:
    """Return what goes with the numbers: how to read them, what they can show, what else differs."""
    said = [
        f"A is {found.a}, B is {found.b}; A − B over the same conditions, in points or the metric's unit; brackets: "
        "95 % intervals, objects as clusters; p: of changing the signs of whole objects."
    ]
    for row in found.rows:
        if row.group == ALL and row.only_a is not None and row.metric == success_metric(row.protocol):
            said.append(_power_note(row))
    if any(math.isnan(row.mcnemar_p) for row in found.rows if row.group == ALL and row.only_a is not None):
        said.append("No McNemar test where objects have several pairs: it would take them as independent.")
    if found.unmatched_a or found.unmatched_b:
        said.append(f"Left out, having no partner: {found.unmatched_a} trials of A, {found.unmatched_b} of B.")
    other = sum(not flip.success_changed for flip in found.flips)
    if other:
        said.append(f"{other} further trials ended differently without a change of success (format json has them).")
    if found.differing:
        said.append(f"Also different: {'; '.join(f'{k} {a} | {b}' for k, (a, b) in found.differing.items())}.")
    return said


def _power_note(row: Row) -> str:
    title = row.protocol
    if math.isnan(row.detectable):
        return f"{title}: {row.n} pairs are too few to say what difference they could show."
    pairs = f"{title}: with {row.n} pairs of {row.objects} object{'s' if row.objects > 1 else ''}"
    if row.detectable > 1:
        return f"{pairs} no difference is sure to be seen, not even one of 100 points (power 80 %, two-sided 5 %)."
    return f"{pairs} a difference of {100 * row.detectable:.1f} points can be seen (power 80 %, two-sided 5 %)."


def _grids(found: Comparison) -> list[Grid]:
    overall = [row for row in found.rows if row.group_by == ALL]
    by_type = [row for row in found.rows if row.group_by == "type"]
    by_object = [row for row in found.rows if row.group_by == "object"]
    changed = {row.group for row in by_object if row.only_a or row.only_b}
    grids = [
        _row_grid(["protocol", "metric"], overall, lambda r: [r.protocol, header_of(r.metric)]),
        _row_grid(["protocol", "type"], by_type, lambda r: [r.protocol, r.group], groups=True),
        _row_grid(
            ["protocol", f"object ({len(changed)} of {len({r.group for r in by_object})} differ)"],
            [row for row in by_object if row.only_a or row.only_b], lambda r: [r.protocol, r.group], groups=True,
        ),
        _flip_grid([flip for flip in found.flips if flip.success_changed]),
    ]  # fmt: skip
    return [grid for grid in grids if grid.lines]


def _row_grid(
    names: list[str], rows: Sequence[Row], name: Callable[[Row], list[str]], groups: bool = False
) -> Grid:  # fmt: skip
    headers = [*names, "A", "B", "A − B", "only A", "only B", "p", "pairs", "objects"]
    mcnemar = not groups and any(not math.isnan(row.mcnemar_p) for row in rows)
    if mcnemar:
        headers.insert(len(headers) - 2, "McNemar p")
    lines = []
    for row in rows:
        p_values = [_p(row.p_value), *([_p(row.mcnemar_p)] if mcnemar else [])]
        lines.append(
            [
                *name(row), _number(row, row.a), _number(row, row.b), _difference(row), _count(row.only_a),
                _count(row.only_b), *p_values, str(row.n), str(row.objects),
            ]
        )  # fmt: skip
    return Grid(headers, lines, len(names))


def _flip_grid(flips: Sequence[Flip]) -> Grid:
    headers = ["flipped: protocol", "object", "scale", "type", "A", "B", "trial of A", "trial of B", "index"]
    return Grid(
        headers,
        [
            [f.protocol, f.object, f"{f.scale:g}", f.type or MISSING, f.a, f.b, f.trial_a, f.trial_b, str(f.index)]
            for f in flips
        ],
        len(headers) - 1,
    )


def _scale(row: Row) -> tuple[int, int]:
    """Factor and digits."""
    return (100, 1) if is_rate(row.metric) or row.protocol == SECURE else (1, 2)


def _number(row: Row, value: float) -> str:
    scale, digits = _scale(row)
    return f"{scale * value:.{digits}f}"


def _difference(row: Row) -> str:
    scale, digits = _scale(row)
    value, low, high = (f"{scale * v:+.{digits}f}".replace("-", "−") for v in (row.difference, row.low, row.high))
    return value if math.isnan(row.low) else f"{value} [{low}, {high}]"


def _p(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(value: int | None) -> str:
    return MISSING if value is None else str(value)
