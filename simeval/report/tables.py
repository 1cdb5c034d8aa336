"""Tables of a run: Markdown, LaTeX and terminal for people, CSV and JSON for programs."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from simeval.errors import unknown_name
from simeval.files import json_text, plain
from simeval.records import Outcome
from simeval.report.summary import (
    ALL,
    PROTOCOLS,
    GroupBy,
    MetricRow,
    OutcomeRow,
    outcome_counts,
    success_metric,
    summarise,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.console import Group

__all__ = [
    "FORMATS",
    "GroupBy",
    "MetricRow",
    "OutcomeRow",
    "html_tables",
    "outcome_counts",
    "render",
    "rich_table",
    "summarise",
]

FORMATS = ("md", "csv", "json", "latex")
MISSING = "–"
_LATEX_COLUMNS = 5  # wider tables are scaled to the width of the text

_HEADERS = {
    "lift_success": "lift %",
    "six_direction_success": "six-direction %",
    "secure_success": "secure %",
    "any_direction_success": "any direction %",
    "type_fidelity_commanded": "type commanded %",
    "type_fidelity_achieved": "type achieved %",
    "penetration_mm_mean": "penetration mm",
    "penetration_mm_p95": "penetration p95 mm",
    "crash_rate": "crash %",
    "cpu_s_per_grasp": "CPU s",
}
"""Columns in this order; any other metric follows under its own name."""

_TERMINAL_HEADERS = {"penetration mm": "pen. mm"}
_NOT_IN_TERMINAL = (
    "any_direction_success", "type_fidelity_commanded", "type_fidelity_achieved", "penetration_mm_p95",
)  # fmt: skip
_NOT_IN_GROUPED_TERMINAL = ("crash_rate", "cpu_s_per_grasp")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text: the first `names` columns are names, the others numbers."""

    headers: list[str]
    lines: list[list[str]]
    names: int


def render(
    rows: Sequence[MetricRow], outcomes: Sequence[OutcomeRow], format: str = "md",
    grids: "Sequence[Grid] | None" = None, caption: str | None = None,
) -> str:  # fmt: skip
    """Return a table as text.

    Args:
        rows: what `summarise` gave.
        outcomes: what `outcome_counts` gave for the same runs; CSV and JSON don't show it.
        format: "md" and "latex": one line per generator, outcomes, conditions; "csv" and "json": the rows.
        grids: tables for "md" and "latex", if not those of the rows and outcomes.
        caption: what goes below them, if not the outcomes' conditions.

    Raises:
        SettingError: no such format.
    """
    shown = _grids(rows, outcomes) if grids is None else grids
    said = _caption(rows, outcomes) if caption is None else caption
    writers: dict[str, Callable[[], str]] = {
        "md": lambda: markdown(shown, said),
        "latex": lambda: latex(shown, said),
        "csv": lambda: csv_text(rows, MetricRow),
        "json": lambda: json_text([asdict(row) for row in rows], indent=2),
    }
    if format not in writers:
        raise unknown_name("format", format, FORMATS)
    return writers[format]()


def rich_table(rows: Sequence[MetricRow], outcomes: Sequence[OutcomeRow]) -> "Group":
    """Return the table for a terminal of 100 columns: intervals of the success rates only."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tables: list[Any] = []
    for grid in _grids(rows, outcomes, short=True):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for i, header in enumerate(grid.headers):
            table.add_column(
                header,
                justify="left" if i < grid.names else "right",
                no_wrap=i >= grid.names,
                overflow="fold",
            )
        for line in grid.lines:
            table.add_row(*(Text(cell) for cell in line))
        tables.append(table)
    return Group(*tables, Text(_caption([], outcomes), style="dim"))


def html_tables(rows: Sequence[MetricRow], outcomes: Sequence[OutcomeRow]) -> str:
    """Return the tables as HTML, each in a box that scrolls sideways, and a paragraph with their conditions."""
    from html import escape

    tables: list[str] = []
    for grid in _grids(rows, outcomes):
        kinds = [' class="number"' if i >= grid.names else "" for i in range(len(grid.headers))]
        head = "".join(f'<th scope="col"{k}>{escape(c)}</th>' for c, k in zip(grid.headers, kinds, strict=True))
        body = [
            "<tr>" + "".join(f"<td{k}>{escape(c)}</td>" for c, k in zip(line, kinds, strict=True)) + "</tr>"
            for line in grid.lines
        ]
        what = "Metrics" if not tables else "Outcomes"
        tables.append(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{what}"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )
    return "\n".join([*tables, f'<p class="dim">{escape(_caption(rows, outcomes))}</p>'])


# What the tables show


def _grids(rows: Sequence[MetricRow], outcomes: Sequence[OutcomeRow], short: bool = False) -> list[Grid]:
    return [grid for grid in (metric_grid(rows, short), _outcome_grid(outcomes, short)) if grid.lines]


def metric_grid(rows: Sequence[MetricRow], short: bool) -> Grid:
    """One line per generator, suite and group."""
    several = len({r.suite for r in rows}) > 1
    grouped = any(r.group != ALL for r in rows)
    names = ["generator", *(["suite"] if several else []), *(["group"] if grouped else [])]
    columns = _columns(rows, short)
    lines: dict[tuple[str, str, str], dict[tuple[str, str], MetricRow]] = {}
    for row in rows:
        lines.setdefault((row.generator, row.suite, row.group), {})[row.metric, row.protocol] = row
    text = []
    for (generator, suite, group), found in lines.items():
        line = [generator, *([suite] if several else []), *([group] if grouped else [])]
        cells = [_cell(found.get((metric, protocol)), short) for metric, protocol, _ in columns]
        text.append([*line, *cells, _count(found.values())])
    return Grid([*names, *(header for _, _, header in columns), "n"], text, len(names))


def _columns(rows: Sequence[MetricRow], short: bool) -> list[tuple[str, str, str]]:
    """(metric, protocol, header): a metric of several protocols shows the headline one and says so."""
    protocols: dict[str, set[str]] = {}
    for row in rows:
        protocols.setdefault(row.metric, set()).add(row.protocol)
    order = {name: i for i, name in enumerate(_HEADERS)}
    columns = []
    for metric in sorted(protocols, key=lambda m: order.get(m, len(order))):
        protocol = min(protocols[metric], key=lambda p: (p not in PROTOCOLS, p))  # lift before six-direction
        title = header_of(metric)
        if short:
            columns.append((metric, protocol, _TERMINAL_HEADERS.get(title, title)))
        else:
            columns.append((metric, protocol, f"{title} ({protocol})" if len(protocols[metric]) > 1 else title))
    hidden: tuple[str, ...] = ()
    if short:
        hidden = _NOT_IN_TERMINAL + (_NOT_IN_GROUPED_TERMINAL if any(r.group != ALL for r in rows) else ())
    return [column for column in columns if column[0] not in hidden]


def header_of(metric: str) -> str:
    """Return a metric's heading, with its unit."""
    return _HEADERS.get(metric, metric.replace("_", " ") + (" %" if is_rate(metric) else ""))


def is_rate(metric: str) -> bool:
    """Whether a metric is a fraction, shown in percent."""
    return metric.endswith(("_success", "_rate")) or metric.startswith("type_fidelity")


def _cell(row: MetricRow | None, short: bool) -> str:
    """Percent, mm or s, as in "88.3 [84.1, 91.5]"; in a terminal the interval stands below."""
    if row is None or math.isnan(row.value):
        return MISSING
    scale, digits = (100, 1) if is_rate(row.metric) else (1, 2)
    value, interval = f"{scale * row.value:.{digits}f}", interval_text(row.low, row.high, scale, digits)
    if not interval or (short and not row.metric.endswith("_success")):
        return value
    return "\n".join((value, interval)) if short else f"{value} {interval}"


def interval_text(low: float, high: float, scale: float = 1, digits: int = 2) -> str:
    """Return an interval as in "[84.1, 91.5]", "[≥ 84.1]" where nothing bounds it above, "" where there is none."""
    ends = {"≥": low, "≤": high}
    bounds = {sign: f"{scale * end:.{digits}f}" for sign, end in ends.items() if math.isfinite(end)}
    if len(bounds) == 2:
        return f"[{bounds['≥']}, {bounds['≤']}]"
    return "".join(f"[{sign} {bound}]" for sign, bound in bounds.items())


def interval_note(rows: Iterable[MetricRow]) -> str:
    """Return what is to be said of intervals without an upper end, where there are some."""
    unbounded = any(math.isfinite(row.low) and math.isinf(row.high) for row in rows)
    return "; [≥ x]: too few trials to say how large it may be at most" if unbounded else ""


def _count(rows: Iterable[MetricRow]) -> str:
    """Trials per protocol: one number where they agree, else one for each ("200/180")."""
    counts = dict.fromkeys(r.n for r in rows if _counts_trials(r))
    return "/".join(str(n) for n in counts)


def _counts_trials(row: MetricRow) -> bool:
    return row.protocol != "secure" and row.metric == success_metric(row.protocol)


def _outcome_grid(outcomes: Sequence[OutcomeRow], short: bool) -> Grid:
    """One line per generator and protocol; in a terminal the outcomes share a column."""
    seen = {name for row in outcomes for name in row.counts}
    names = [*(str(o) for o in Outcome if o in seen), *sorted(seen - set(Outcome))]
    several = len({row.suite for row in outcomes}) > 1
    headers = ["generator", *(["suite"] if several else []), "protocol", "data"]
    lines = []
    for row in outcomes:
        line = [row.generator, *([row.suite] if several else []), row.protocol, row.data_kind]
        if short:
            lines.append([*line, ", ".join(f"{name} {n}" for name, n in row.counts.items()) or MISSING])
        else:
            lines.append([*line, *(str(row.counts.get(name, 0)) for name in names), str(row.n)])
    if short:
        return Grid([*headers, "outcomes"], lines, len(headers) + 1)
    return Grid([*headers, *names, "n"], lines, len(headers))


def _caption(rows: Sequence[MetricRow], outcomes: Sequence[OutcomeRow]) -> str:
    """Suite, data, conditions, seeds, versions, and what the brackets are."""

    def several(values: Iterable[str]) -> str:
        return " | ".join(dict.fromkeys(v for v in values if v))

    seeds = sorted({seed for row in outcomes for seed in row.seeds})
    parts = [
        f"Suite {several(row.suite for row in outcomes) or MISSING}",
        f"{several(row.data_kind for row in outcomes) or 'unknown'} data",
        several(row.conditions for row in outcomes),
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" if seeds else "",
        several(row.versions for row in outcomes),
        f"brackets: 95 % intervals, objects as clusters{interval_note(rows)}",
    ]
    return "; ".join(part for part in parts if part) + "."


# How they are written


def markdown(grids: Sequence[Grid], caption: str) -> str:
    """Tables of text and what they show, as Markdown."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

    blocks = []
    for grid in grids:
        rule = ["---"] * grid.names + ["---:"] * (len(grid.headers) - grid.names)
        blocks.append("\n".join([line(grid.headers), line(rule), *(line(cells) for cells in grid.lines)]))
    return "\n\n".join([*blocks, caption]) + "\n"


def plain_text(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """Tables of text in aligned columns, and what they show, a line each."""
    blocks = []
    for grid in grids:
        table = [grid.headers, *grid.lines]
        widths = [max(len(line[i]) for line in table) for i in range(len(grid.headers))]
        blocks.append(
            "\n".join(
                "  ".join(
                    c.ljust(w) if i < grid.names else c.rjust(w)
                    for i, (c, w) in enumerate(zip(line, widths, strict=True))
                ).rstrip()
                for line in table
            )
        )
    return "\n\n".join([*blocks, "\n".join(notes)]) + "\n"


_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", MISSING: "--", "³": r"\textsuperscript{3}", "≥": r"$\geq$",
    "≤": r"$\leq$", "−": "$-$",
} | {c: f"\\{c}" for c in "&%$#_{}"}  # fmt: skip


def latex_text(text: str) -> str:
    """LaTeX text; a first bracket is kept from being an argument of the line break before it."""
    return ("{}" if text.startswith("[") else "") + "".join(_LATEX_SPECIAL.get(c, c) for c in text)


def latex(grids: Sequence[Grid], caption: str) -> str:
    """A `table` float for a document that uses the packages booktabs and graphicx; no wider than the text."""

    def line(cells: Iterable[str]) -> str:
        return " & ".join(latex_text(cell) for cell in cells) + r" \\"

    tabulars = []
    for grid in grids:
        columns = "l" * grid.names + "r" * (len(grid.headers) - grid.names)
        body = [line(grid.headers), r"\midrule", *(line(cells) for cells in grid.lines)]
        tabular = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]
        wide = len(grid.headers) > _LATEX_COLUMNS
        tabulars.append("\n".join([r"\resizebox{\textwidth}{!}{%", *tabular, "}"] if wide else tabular))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs, graphicx}", r"\begin{table}", r"\centering",
            f"\\caption{{{latex_text(caption)}}}", "\n\n\\medskip\n".join(tabulars), "\\end{table}\n",
        ]
    )  # fmt: skip


def plain_row(row: "DataclassInstance") -> dict[str, Any]:
    """Values of a row by name; None where there is no number."""
    return {key: plain(value) for key, value in asdict(row).items()}


def csv_text(rows: Sequence["DataclassInstance"], kind: type["DataclassInstance"]) -> str:
    """Header and rows of a kind; an empty cell where there is no number."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [f.name for f in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in plain_row(row).items()} for row in rows)
    return stream.getvalue()
