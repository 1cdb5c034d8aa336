"""Build a data set: grow grasps on every object, several objects at a time, and write those that hold.

Which grasps are kept depends only on the recipe and its seed, not on how many workers there are or which object is
finished first. A build that was stopped goes on where it was: finished objects are in the file's parts, or in the file.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simeval.bank import GraspBank, ObjectShape, load_bank, write_bank
from simeval.dataset.grow import Effort, Grown, Recipe, Row, grow
from simeval.errors import DataError, SettingError
from simeval.files import check_writable, completed
from simeval.manifest import executor_digest, versions
from simeval.objects.embedded import PREFIX
from simeval.physics.pool import run_jobs
from simeval.registry import make_generator
from simeval.run import fingerprint_of

OBJECT_TIMEOUT = 1800.0
"""Seconds after which an object is given up; a usual one takes 20 s."""
OBJECTS_PER_WORKER = 20
"""A worker is replaced after so many objects, so that what Bullet leaks never adds up."""
COLUMNS = ("lift", "six_direction", "directions_held", "penetration_mm", "slip_mm", "tilt_deg", "seed")
"""Columns of a data set beyond those of any bank; names as in `grow.Row`."""
FAILED_COLUMNS = (*COLUMNS, "achieved")
"""The same of the grasps that were simulated and not kept."""

log = logging.getLogger(__name__)

Key = tuple[str, float]


class BuildProgress(NamedTuple):
    """How far a build is."""

    done: int  # objects
    total: int
    kept: int  # grasps, earlier calls included


@dataclass(slots=True)
class BuildReport:
    """What a build found, earlier calls included."""

    objects: int = 0  # with at least one grasp, each scale counted
    effort: Effort = field(default_factory=Effort)
    empty: dict[Key, str] = field(default_factory=dict)  # objects without a grasp, and why


@dataclass(frozen=True, slots=True)
class _Job:
    recipe: Recipe
    code: str
    scale: float


def build_dataset(
    recipe: Recipe,
    objects: Sequence[Key],
    out: str | Path,
    command: str = "",
    workers: int = 1,
    progress: Callable[[BuildProgress], None] | None = None,
    failed: str | Path | None = None,
) -> BuildReport:
    """Build a data set and write it to `out` (.parquet); on an interrupt, what is finished so far.

    Args:
        recipe: how grasps are made.
        objects: code and scale of each, in the order in which they are worked on.
        out: the file. Where it is already there, of the same recipe, its objects are kept, and only others made.
        command: how to make it again, for the file's metadata.
        workers: objects at a time; 0 builds in this process.
        progress: called after every object.
        failed: a second file (.parquet), for the grasps that were simulated and not kept.

    Raises:
        SettingError: no objects, or an unknown generator.
        DataError: `out`, or its parts, are of a build with another recipe; nothing could be lifted.
    """
    if not objects:
        raise SettingError("a data set needs at least one object")
    facts = _facts(recipe)
    out = Path(out)
    if failed and Path(failed).resolve() == out.resolve():
        raise SettingError(f"{out} can't hold both the grasps that are kept and those that failed: name two files")
    store = _Store(out, facts, Path(failed) if failed else None)
    todo = [_Job(recipe, code, scale) for code, scale in objects if (code, scale) not in store.grown]
    try:
        with closing(_results(todo, workers)) as results:  # type: ignore[type-var]
            for grown in results:
                if grown.reason and not grown.rows:
                    log.warning("%s at scale %g gave nothing: %s", grown.code, grown.scale, grown.reason)
                store.add(grown)
                if progress:
                    done = sum(key in store.grown for key in objects)
                    progress(BuildProgress(done, len(objects), sum(len(g.rows) for g in store.grown.values())))
    finally:
        if any(g.rows for g in store.grown.values()):
            store.write(objects, command, versions(recipe.generator))
    report = BuildReport()
    for grown in store.grown.values():
        report.effort.add(grown.effort)
        report.objects += bool(grown.rows)
        if not grown.rows:
            report.empty[grown.code, grown.scale] = grown.reason
    if not report.objects:
        raise DataError(f"none of {report.effort.tried.total()} grasps of {len(objects)} objects holds")
    return report


def _facts(recipe: Recipe) -> dict[str, Any]:
    """What a build must share with what was stored of it; makes the generator, so that wrong settings are found."""
    generator = make_generator(recipe.generator, recipe.settings, recipe.data)
    fingerprint = fingerprint_of(generator, f"generator {recipe.generator!r}")
    return recipe.facts() | {"executor_digest": executor_digest(), "fingerprint": fingerprint}


def _results(todo: Sequence[_Job], workers: int) -> Iterator[Grown]:
    """Yield what came of each object; one that killed its worker, or took too long, is given up."""
    for job, result, reason in run_jobs(_grow, todo, workers, OBJECT_TIMEOUT, OBJECTS_PER_WORKER):
        yield result or Grown(job.code, job.scale, reason=reason)


def _grow(job: _Job) -> Grown:
    return grow(job.recipe, job.code, job.scale)


class _Store:
    """Finished objects: those of the file, and one JSON line each of those made since, beside it."""

    def __init__(self, out: Path, facts: Mapping[str, Any], failed: Path | None) -> None:
        self.out, self.failed, self.parts = out, failed, out.with_name(out.name + ".parts.jsonl")
        self.facts = json.loads(json.dumps(facts))
        self.grown: dict[Key, Grown] = {}
        if out.is_file():
            effort = self._read_file()
            if failed and failed.is_file():
                self._read_failed(failed, effort)
            elif failed:
                log.warning("%s isn't there: what failed on objects finished before isn't known any more", failed)
        elif failed and failed.is_file():
            self._check(load_bank(failed))
        self._read_parts()
        for path in (out, failed):
            if path:
                check_writable(path)

    def add(self, grown: Grown) -> None:
        """Append a finished object."""
        if not self.parts.exists():
            self.parts.write_text(json.dumps(self.facts) + "\n")
        with self.parts.open("a") as stream:
            stream.write(json.dumps(_plain(grown)) + "\n")
        self.grown[grown.code, grown.scale] = grown

    def write(self, objects: Sequence[Key], command: str, made_with: Mapping[str, Any]) -> None:
        """Write all that is finished, in the order of `objects`, and delete the parts."""
        order = {key: i for i, key in enumerate(objects)}
        grown = sorted(self.grown.values(), key=lambda g: order.get((g.code, g.scale), len(order)))
        shapes = {(g.code, g.scale): g.shape for g in grown if g.shape is not None}
        whole = Effort()
        for g in grown:
            whole.add(g.effort)
        embedded = all(g.code.startswith(PREFIX) for g in grown)
        meta = self.facts | {
            "data_kind": "embedded" if embedded else "real", "command": command, "versions": made_with,
            "effort": whole.as_dict(),
            "objects": len(objects), "finished": sum(key in self.grown for key in objects),
            "empty": [[g.code, g.scale, g.reason] for g in grown if not g.rows],
        }  # fmt: skip
        kept = [(g, row) for g in grown for row in g.rows]
        _write(self.out, kept, shapes, meta, COLUMNS)
        dropped = [(g, row) for g in grown for row in g.failed]
        if self.failed and dropped:
            _write(self.failed, dropped, shapes, meta, FAILED_COLUMNS)
        self.parts.unlink(missing_ok=True)

    def _check(self, bank: GraspBank) -> GraspBank:
        if any(bank.meta.get(name) != value for name, value in self.facts.items()):
            raise DataError(f"{bank.source} is of a build with other settings: delete it, or name another output")
        return bank

    def _read_file(self) -> dict[str, Any]:
        """Take over the file's objects; return what the whole of it took."""
        bank = self._check(load_bank(self.out))
        for code, scale, reason in bank.meta["empty"]:
            self.grown[code, scale] = Grown(code, scale, reason=reason)
        for key, row in _rows(bank, COLUMNS):
            self.grown.setdefault(key, Grown(*key, shape=bank.shapes[key])).rows.append(row)
        effort: dict[str, Any] = bank.meta["effort"]
        if self.grown:  # what it took is known of the whole only
            next(iter(self.grown.values())).effort = Effort.from_dict(effort)
        return effort

    def _read_failed(self, path: Path, effort: Mapping[str, Any]) -> None:
        bank = self._check(load_bank(path))
        if bank.meta["effort"] != effort:
            log.warning("%s: %s went on without it, and what failed then isn't known any more", path, self.out)
        for key, row in _rows(bank, FAILED_COLUMNS):
            if key in self.grown:
                self.grown[key].shape = bank.shapes[key]
                self.grown[key].failed.append(row)

    def _read_parts(self) -> None:
        try:
            text = self.parts.read_text() if self.parts.is_file() else ""
            lines = text[: text.rfind("\n") + 1].splitlines()  # a line cut short by a kill is of no finished object
            found = [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise DataError(f"{self.parts} can't be read ({error}): delete it to start over") from None
        if found and found[0] != self.facts:
            raise DataError(f"{self.parts} is of a build with other settings: delete it, or name another output")
        for entry in found[1:]:
            grown = _parse(entry)
            self.grown[grown.code, grown.scale] = grown
        if text and not lines:
            self.parts.unlink()
        elif not text.endswith("\n") and lines:
            with completed(self.parts) as unfinished:
                unfinished.write_text("\n".join(lines) + "\n")


def _write(
    path: Path,
    rows: Sequence[tuple[Grown, Row]],
    shapes: Mapping[Key, ObjectShape],
    meta: Mapping[str, Any],
    columns: Sequence[str],
) -> None:
    write_bank(
        path, [g.code for g, _ in rows], [g.scale for g, _ in rows], [row.type for _, row in rows],
        np.array([row.grasp for _, row in rows]), shapes, meta,
        {name: np.array([getattr(row, name) for _, row in rows]) for name in columns},
    )  # fmt: skip


def _rows(bank: GraspBank, columns: Sequence[str]) -> Iterator[tuple[Key, Row]]:
    """Yield the object and the row of each grasp that `_write` wrote."""
    vectors = bank.grasps.to_vectors() if bank.vectors is None else bank.vectors
    for i, key in enumerate(zip(bank.codes.tolist(), bank.scales.tolist(), strict=True)):
        kind = str(bank.types[i])
        values = {"achieved": kind} | {name: bank.extra[name][i].item() for name in columns}
        yield key, Row(type=kind, grasp=vectors[i].tolist(), **values)


def _plain(grown: Grown) -> dict[str, Any]:
    shape = grown.shape and {name: np.asarray(v).tolist() for name, v in grown.shape._asdict().items()}
    return {
        "code": grown.code, "scale": grown.scale, "shape": shape, "rows": [asdict(r) for r in grown.rows],
        "failed": [asdict(r) for r in grown.failed], "effort": grown.effort.as_dict(), "reason": grown.reason,
    }  # fmt: skip


def _parse(entry: Mapping[str, Any]) -> Grown:
    shape = entry["shape"]
    if shape:
        low, high, center, up = (np.array(shape[name]) for name in ("low", "high", "center", "up"))
        shape = ObjectShape(low, high, center, shape["volume"], up)
    rows, failed = ([Row(**row) for row in entry[name]] for name in ("rows", "failed"))
    effort = Effort.from_dict(entry["effort"])
    return Grown(entry["code"], entry["scale"], shape, rows, failed, effort, entry["reason"])
