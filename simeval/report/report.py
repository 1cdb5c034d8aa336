"""`simeval report`: what some runs say, as one HTML file."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

from simeval.errors import DataError, SettingError, SimevalError, unknown_name
from simeval.motion import Motion, record_motions
from simeval.records import TrialRecord
from simeval.replay import StoredObjects, StoredTrial, restore_trial
from simeval.report import html
from simeval.report.scenes import hand_scene, object_scene
from simeval.report.summary import PROTOCOLS, can_be_shown, outcome_counts, records_by_name, summarise
from simeval.report.tables import html_tables
from simeval.report.viewer import describe, object_key, scene_of
from simeval.stats import paired_difference
from simeval.store import Run, read_run

Progress = Callable[[int, int], None]
MOST_COMPARED = 8
"""Generators that are compared with one another; more would be more than anyone reads."""
MOST_LISTED = 50_000
"""Trials in the table: beyond this a browser gets slow."""
ANY_TYPE = "any"

COMPARISON = ("generator", "protocol", "difference, points", "95 % interval", "pairs", "only this", "only the other")
_COMPARISON_NOTE = (
    "Success of the generator minus that of the one it is compared with, over the conditions that both have, in "
    "percentage points; 95 % intervals, objects as clusters. The last two columns count conditions that only one held."
)


@dataclass(frozen=True, slots=True)
class Source:
    """A run and where it lies."""

    folder: Path
    run: Run


@dataclass(slots=True)
class Views:
    """What the 3D view shows."""

    objects: dict[str, Any] = field(default_factory=dict)
    trials: dict[str, Any] = field(default_factory=dict)
    without_motion: int = 0
    not_restored: dict[str, int] = field(default_factory=dict)  # why, and how many trials: data or a mesh is missing
    differing: int = 0


def read_sources(folders: Sequence[Path]) -> list[Source]:
    """Read run folders.

    Raises:
        DataError: one can't be read, or none has a trial.
    """
    sources = [Source(folder, read_run(folder)) for folder in folders]
    if not any(source.run.records for source in sources):
        raise DataError(
            f"no trials in {', '.join(str(s.folder) for s in sources[:3])}: nothing has been run yet. "
            "The `simeval run` command that made the folder resumes it."
        )
    return [source for source in sources if source.run.records]


def report_page(
    sources: Sequence[Source], views: Views, pictures: Sequence[html.Picture], title: str = "simeval report"
) -> str:
    """Return the report.

    Args:
        sources: what `read_sources` gave.
        views: what `make_views` gave.
        pictures: the figures.
        title: of the page.
    """
    runs = [source.run for source in sources]
    by_name = records_by_name(runs)
    compared = compare(by_name)
    total = sum(len(records) for records in by_name.values())
    tables = html_tables(summarise(runs), outcome_counts(runs))
    failed = any(trial["failed"] for trial in views.trials.values())
    parts = [("summary", "Summary", tables)]
    if compared:
        parts.append(("comparison-section", "Comparison", html.comparison_table(COMPARISON, _COMPARISON_NOTE)))
    if pictures:
        parts.append(("figures", "Figures", html.figures(pictures)))
    if views.trials:
        parts.append(("view", "3D view", html.viewer_panel(_view_note(views, total))))
        if failed:
            gallery = (
                '<p class="dim">How they ended; a picture opens the trial in the 3D view.</p><div id="failures"></div>'
            )
            parts.append(("failures-section", "Failures", gallery))
    parts.append(("trials-section", "Trials", _left_out(total) + html.trial_table()))
    lines = [f"{total:,} trials of {len(by_name)} generators on {_object_count(by_name)} objects."]
    lines += [f"{name}: {len(records):,} trials" for name, records in by_name.items()]
    body = html.header(title, [lines[0], "; ".join(lines[1:]) + "."], [(name, text) for name, text, _ in parts])
    body += "<main>" + "\n".join(html.section(*part) for part in parts) + "</main>"
    scenes = {"hand": hand_scene(), "objects": views.objects, "trials": views.trials}
    return html.page(title, body, {"scenes": scenes, "trials": trial_rows(by_name), "comparison": compared or None})


# Trials in 3D


def choose_trials(by_name: Mapping[str, Sequence[TrialRecord]], count: int) -> list[tuple[str, TrialRecord]]:
    """Return at most `count` trials to look at, with their generators' names: one of each way to end in turn.

    The generators that come last in a table, those under test, come first; failures before successes. Trials of which
    no grasp exists can't be looked at.
    """
    groups: list[list[tuple[str, TrialRecord]]] = []
    for name in reversed(list(by_name)):
        outcomes: dict[tuple[bool, str], list[TrialRecord]] = {}
        for record in by_name[name]:
            if can_be_shown(record):
                outcomes.setdefault((record.success, record.outcome), []).append(record)
        for key in sorted(outcomes):  # from all over the list, so that those shown first aren't all of the first object
            groups.append([(name, r) for r in sorted(outcomes[key], key=lambda r: (r.index, r.trial_id))])
    chosen: dict[str, tuple[str, TrialRecord]] = {}
    for depth in range(max(map(len, groups), default=0)):
        for group in groups:
            if depth < len(group) and len(chosen) < count:
                chosen.setdefault(group[depth][1].trial_id, group[depth])
        if len(chosen) >= count:
            break
    return list(chosen.values())


def check_can_be_shown(record: TrialRecord) -> None:
    """Say why there is nothing to see of a trial.

    Raises:
        SettingError: it has no grasp, or one that isn't of finite numbers.
    """
    if not can_be_shown(record):
        raise SettingError(f"trial {record.trial_id} has no grasp to look at: {record.outcome} ({record.reason})")


def named_trials(by_name: Mapping[str, Sequence[TrialRecord]], ids: Sequence[str]) -> list[tuple[str, TrialRecord]]:
    """Find trials by the first digits of their ids.

    Raises:
        SettingError: no trial or several begin like this, or it has no grasp.
    """
    known = {record.trial_id: (name, record) for name, records in by_name.items() for record in records}
    found = []
    for wanted in ids:
        matches = [key for key in known if key.startswith(wanted.lower())]
        if not matches:
            raise unknown_name("trial", wanted, known, "Their ids stand in the report's table.")
        if len(matches) > 1:
            raise SettingError(f"{len(matches)} trials begin with {wanted!r}: {', '.join(matches[:5])}")
        name, record = known[matches[0]]
        check_can_be_shown(record)
        found.append((name, record))
    return found


def make_views(
    sources: Sequence[Source],
    chosen: Sequence[tuple[str, TrialRecord]],
    objects: StoredObjects | None = None,
    rerun: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> Views:
    """Return the 3D view of some trials; records don't have what moved, so the trials are run again.

    Args:
        sources: the runs that the trials are of.
        chosen: trials and their generators' names.
        objects: the runs' objects; None: all are where they were, data in SIMEVAL_DATA.
        rerun: whether to run them; else the commanded poses are all there is.
        workers: processes; 0: none but this.
        progress: called with (done, total).
    """
    views, objects = Views(), objects or StoredObjects()
    where = {record.trial_id: source for source in sources for record in source.run.records}
    stored: dict[str, StoredTrial] = {}
    motions: dict[str, tuple[Motion | None, str]] = {}
    for _, record in chosen:
        source = where[record.trial_id]
        try:
            found = restore_trial(source.folder, source.run, record, objects)
        except SimevalError as error:
            motions[record.trial_id] = None, str(error)
            views.not_restored[str(error)] = views.not_restored.get(str(error), 0) + 1
            continue
        stored[record.trial_id] = found
        views.objects.setdefault(object_key(record), None)
        views.objects[object_key(record)] = views.objects[object_key(record)] or object_scene(found.model)
    if rerun:
        tasks = [found.task for found in stored.values()]
        for task, motion, reason in record_motions(tasks, workers):
            motions[task.trial.trial_id] = motion, reason
            if progress:
                progress(len(motions), len(chosen))
    for name, record in chosen:
        motion, reason = motions.get(record.trial_id, (None, "the trial was not run again"))
        scene = scene_of(record, motion, f"{name}, {describe(record)}", str(where[record.trial_id].folder), reason)
        views.trials[record.trial_id] = scene
        views.without_motion += motion is None
        views.differing += "NOT the stored trial" in scene["note"]
    return views


def _view_note(views: Views, total: int) -> str:
    count = len(views.trials)
    note = f"{count} of {total:,} trials, one of each generator and way to end in turn; --trial adds others. "
    shown = count - views.without_motion
    if shown:
        note += (
            f"Records hold grasps as commanded, not what became of them, so {shown} trials were run again to show it: "
        )
        if views.differing:
            note += f"{views.differing} came out other than stored, as said below each. "
        else:
            note += "all came out bit for bit as stored. "
    if views.without_motion:
        note += f"{views.without_motion} show the commanded pose only, for the reason given below each."
    return note


# Tables


def trial_rows(by_name: Mapping[str, Sequence[TrialRecord]]) -> dict[str, Any]:
    """Return the trial table as JSON types: columns, and rows in which names are indices into their column's."""
    cells: list[tuple[str, str, Callable[[str, TrialRecord], Any], int]] = [
        ("id", "trial", lambda n, r: r.trial_id, 0),
        ("generator", "generator", lambda n, r: n, 0),
        ("object", "object", lambda n, r: r.object_code, 0),
        ("scale", "scale", lambda n, r: r.scale, 3),
        ("type", "type", lambda n, r: r.grasp_type or ANY_TYPE, 0),
        ("index", "#", lambda n, r: float(r.index), 0),
        ("protocol", "protocol", lambda n, r: r.protocol, 0),
        ("outcome", "outcome", lambda n, r: r.outcome, 0),
        ("directions", "directions held", lambda n, r: float(r.directions_held), 0),
        ("slip", "slip mm", lambda n, r: 1e3 * r.slip_m, 1),
        ("tilt", "tilt °", lambda n, r: math.degrees(r.tilt_rad), 1),
        ("penetration", "penetration mm", lambda n, r: r.penetration_mm, 2),
        ("held", "held penetration mm", lambda n, r: r.penetration_held_mm, 2),
        ("commanded", "commanded type", lambda n, r: r.commanded_type, 0),
        ("achieved", "achieved type", lambda n, r: r.achieved_type, 0),
        ("cpu", "CPU s", lambda n, r: r.cpu_s, 2),
        ("reason", "reason", lambda n, r: r.reason, 0),
    ]
    listed = [(name, record) for name, records in by_name.items() for record in records][:MOST_LISTED]
    columns: list[dict[str, Any]] = []
    values: list[list[Any]] = []
    for key, title, get, digits in cells:
        found = [get(name, record) for name, record in listed]
        number = isinstance(found[0], float)
        columns.append({"key": key, "title": title, "number": number, "digits": digits, "names": None})
        if number:
            found = [round(v, digits + 1) if math.isfinite(v) else None for v in found]
        elif key != "id":
            index = {text: i for i, text in enumerate(dict.fromkeys(found))}
            columns[-1]["names"] = list(index)
            found = [index[text] for text in found]
        values.append(found)
    return {"columns": columns, "rows": [list(row) for row in zip(*values, strict=True)]}


def compare(by_name: Mapping[str, Sequence[TrialRecord]]) -> list[dict[str, Any]]:
    """Return the paired differences in success of every two generators that share conditions, in each protocol."""
    names = list(by_name)[-MOST_COMPARED:]
    protocols = dict.fromkeys((*PROTOCOLS, *(r.protocol for n in names for r in by_name[n])))
    rows = []
    for baseline, name in permutations(names, 2):
        for protocol in protocols:
            ours, theirs = ({r.condition_id: r for r in by_name[n] if r.protocol == protocol} for n in (name, baseline))
            if not ours.keys() & theirs.keys():
                continue
            found = paired_difference(
                {c: float(r.success) for c, r in ours.items()}, {c: float(r.success) for c, r in theirs.items()},
                {c: r.object_code for c, r in ours.items()},
            )  # fmt: skip
            e, flips = found.estimate, found.mcnemar
            cells = [
                name, protocol, f"{100 * e.value:+.1f}", f"[{100 * e.low:+.1f}, {100 * e.high:+.1f}]", str(e.n),
                *((str(flips.only_a), str(flips.only_b)) if flips else ("–", "–")),
            ]  # fmt: skip
            rows.append({"baseline": baseline, "cells": cells})
    return rows


def _left_out(total: int) -> str:
    if total <= MOST_LISTED:
        return ""
    return f'<p role="note">The first {MOST_LISTED:,} of {total:,} trials are listed; the numbers above are of all.</p>'


def _object_count(by_name: Mapping[str, Sequence[TrialRecord]]) -> int:
    return len({record.object_code for records in by_name.values() for record in records})
