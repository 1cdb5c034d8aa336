"""Build a bank: generate grasps, simulate `lift`, keep what was lifted.

Which grasps are kept depends only on the arguments and the seed, not on how many workers there are or which
trial ends first: an object's candidates are tried in a fixed order (the best of each type, then the second best of
each, …), and its grasps are the first `per_object` lifted ones in that order.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simeval.bank import ObjectShape, shape_of, write_bank
from simeval.errors import DataError, SettingError
from simeval.generator import Generator, GraspRequest
from simeval.grasp import Array, GraspBatch
from simeval.manifest import versions
from simeval.objects import ObjectLibrary, ObjectModel
from simeval.objects.embedded import PREFIX
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Condition, Outcome, Trial, TrialRecord
from simeval.registry import generator_origin, make_generator
from simeval.taxonomy import GRASP_TYPES, TAXONOMY_VERSION, grasp_type

PROTOCOL = "lift"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What to build a bank from."""

    objects: Sequence[tuple[str, float]]  # code and scale
    generator: str = "preshape"
    settings: Mapping[str, str] = field(default_factory=dict)  # the generator's, as text
    types: Sequence[str] = tuple(GRASP_TYPES)
    per_object: int = 4  # lifted grasps after which an object is done
    waves: int = 3  # candidates of each type that an object gets at most
    physics: Physics = field(default_factory=Physics)
    seed: int = 0
    workers: int = 1
    data: Path | None = None  # folder with DexGraspNet's data

    def facts(self) -> dict[str, Any]:
        """Return what decides the bank's contents, for its metadata and for resuming."""
        return {
            "generator": self.generator, "origin": generator_origin(self.generator),
            "settings": dict(self.settings), "types": list(self.types), "per_object": self.per_object,
            "waves": self.waves, "protocol": PROTOCOL, "physics": self.physics.as_dict(), "seed": self.seed,
            "taxonomy": TAXONOMY_VERSION,
        }  # fmt: skip


class BuildProgress(NamedTuple):
    """How far a build is."""

    done: int  # objects
    total: int
    tried: int  # grasps, since this call began
    lifted: int  # grasps kept, earlier calls included


@dataclass(slots=True)
class BuildReport:
    """What a build found."""

    objects: int = 0  # with at least one lifted grasp
    kept: Counter[str] = field(default_factory=Counter)  # grasps in the bank, by type
    tried: Counter[str] = field(default_factory=Counter)  # simulated, by type
    lifted: Counter[str] = field(default_factory=Counter)  # of those simulated; not all are kept


class _Candidates:
    """One object's candidates, generated when needed, and what became of them."""

    def __init__(self, key: tuple[str, float], model: ObjectModel, kinds: Sequence[str], waves: int) -> None:
        self.key, self.model = key, model
        self.order = [(kind, wave) for wave in range(waves) for kind in kinds]
        self.started = 0  # candidates handed out
        self.vectors: dict[str, Array] = {}  # by type, (W, 28), the best first
        self.lifted: dict[tuple[str, int], bool] = {}

    def known(self) -> bool:
        """Whether all that was handed out has been simulated."""
        return all(c in self.lifted for c in self.order[: self.started])

    def kept(self, count: int) -> list[tuple[str, int]]:
        """First `count` lifted candidates (type, wave), in the order of trying."""
        return [c for c in self.order if self.lifted.get(c)][:count]

    def finished(self, count: int) -> bool:
        """Whether enough were lifted before the first that isn't known yet, or all are known."""
        lifted = 0
        for candidate in self.order:
            if lifted == count:
                return True
            if candidate not in self.lifted:
                return False
            lifted += self.lifted[candidate]
        return True


def build_bank(
    spec: BuildSpec,
    out: str | Path,
    command: str = "",
    progress: Callable[[BuildProgress], None] | None = None,
) -> BuildReport:
    """Build a bank and write it to `out` (.parquet); a build that was stopped goes on where it was.

    Finished objects are kept beside `out`, in `<out>.parts.jsonl`, until the bank is written.

    Raises:
        SettingError: an unknown type or generator, or a number below 1.
        DataError: a parts file is there of a build with other settings; nothing could be lifted.
    """
    _check(spec)
    out = Path(out)
    generator = make_generator(spec.generator, spec.settings, spec.data)
    parts = _Parts(out.with_name(out.name + ".parts.jsonl"), spec.facts())
    build = _Build(spec, generator, parts, progress)
    with closing(run_tasks(build.tasks(), spec.workers)) as results:  # type: ignore[type-var]
        for record in results:
            build.take(record)
    rows = [row for key in spec.objects for row in parts.rows.get(_name(key), [])]
    if not rows:
        raise DataError(f"none of {build.report.tried.total()} grasps of {len(spec.objects)} objects was lifted")
    embedded = all(code.startswith(PREFIX) for code, _ in spec.objects)
    kind = {"data_kind": "embedded" if embedded else "real"}
    meta = spec.facts() | kind | {"command": command, "versions": versions(spec.generator)}
    write_bank(
        out, [r["object"] for r in rows], [r["scale"] for r in rows], [r["type"] for r in rows],
        np.array([r["grasp"] for r in rows]), parts.shapes(), meta,
    )  # fmt: skip
    parts.path.unlink()
    build.report.objects = len({(r["object"], r["scale"]) for r in rows})
    build.report.kept.update(r["type"] for r in rows)
    return build.report


def object_seed(seed: int, code: str, scale: float, kind: str) -> int:
    """Seed of the request for one object and type, 31 bits."""
    text = json.dumps([seed, code, scale, kind])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class _Build:
    """State of a build: hands out tasks, takes records."""

    def __init__(
        self,
        spec: BuildSpec,
        generator: Generator,
        parts: "_Parts",
        progress: Callable[[BuildProgress], None] | None,
    ) -> None:
        self.spec, self.generator, self.parts, self.progress = spec, generator, parts, progress
        self.library = ObjectLibrary(spec.data, size=1)
        self.report = BuildReport()
        self.active: dict[tuple[str, float], _Candidates] = {}

    def tasks(self) -> Iterator[Task]:
        """Yield trials: more of objects that need more, then of new objects; at the very end some ahead of need."""
        todo = ((i, k) for i, k in enumerate(self.spec.objects) if _name(k) not in self.parts.rows)
        more = True
        while True:
            going = [c for c in self.active.values() if c.started < len(c.order)]
            ready = next((c for c in going if c.known()), None)
            if ready is None and more:
                index, key = next(todo, (0, None))
                more = key is not None
                if key is not None:
                    self._start(index, key)
                continue
            ready = ready or next(iter(going), None)  # nothing else to do while others finish: look ahead
            if ready is None:
                return
            yield from self._next(ready)

    def _next(self, candidates: _Candidates) -> Iterator[Task]:
        """Hand out as many candidates of an object as it needs lifted ones."""
        chosen = candidates.order[candidates.started :][: self.spec.per_object]
        candidates.started += len(chosen)
        for kind, wave in chosen:
            if candidates.key not in self.active:  # meanwhile finished
                return
            if wave < len(self._vectors(candidates, kind)):
                yield self._task(candidates, kind, wave)
            else:
                self._note(candidates, kind, wave, False)

    def take(self, record: TrialRecord) -> None:
        """Note what became of a trial."""
        kind = record.grasp_type
        self.report.tried[kind] += 1
        self.report.lifted[kind] += record.success
        candidates = self.active.get((record.object_code, record.scale))
        if candidates is None:  # looked ahead for nothing
            return
        self._note(candidates, kind, record.index, record.outcome == Outcome.LIFTED)

    def _note(self, candidates: _Candidates, kind: str, wave: int, lifted: bool) -> None:
        candidates.lifted[kind, wave] = lifted
        if candidates.finished(self.spec.per_object) and candidates.key in self.active:
            self._finish(candidates)

    def _start(self, index: int, key: tuple[str, float]) -> None:
        """Load an object; the order of types turns from object to object."""
        turn = index % len(self.spec.types)
        kinds = [*self.spec.types[turn:], *self.spec.types[:turn]]
        try:
            self.active[key] = _Candidates(key, self.library.load(*key), kinds, self.spec.waves)
        except DataError as error:
            log.warning("%s at scale %g is left out: %s", *key, error)
            self.parts.add(key, None, [])

    def _vectors(self, candidates: _Candidates, kind: str) -> Array:
        """Candidates of one type (W, 28), the best first."""
        if kind not in candidates.vectors:
            seed = object_seed(self.spec.seed, *candidates.key, kind)
            found = self.generator.generate(GraspRequest(candidates.model, kind, self.spec.waves, seed))
            candidates.vectors[kind] = found.to_vectors()
        return candidates.vectors[kind]

    def _task(self, candidates: _Candidates, kind: str, wave: int) -> Task:
        code, scale = candidates.key
        condition = Condition(code, scale, kind, wave, PROTOCOL, self.spec.physics.digest, self.spec.seed)
        grasp = GraspBatch.from_vectors(candidates.vectors[kind][wave : wave + 1])  # exactly as a bank gives it
        return Task(Trial(condition, grasp, candidates.model.digest), candidates.model, self.spec.physics)

    def _finish(self, candidates: _Candidates) -> None:
        kept = candidates.kept(self.spec.per_object)
        rows = [(kind, candidates.vectors[kind][wave].tolist()) for kind, wave in kept]
        self.parts.add(candidates.key, shape_of(candidates.model), rows)
        del self.active[candidates.key]
        if self.progress:
            done, lifted = len(self.parts.rows), sum(len(r) for r in self.parts.rows.values())
            tried = self.report.tried.total()
            self.progress(BuildProgress(done, len(self.spec.objects), tried, lifted))


class _Parts:
    """Finished objects, one JSON line each, after a line that says what is being built."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._shapes: dict[tuple[str, float], ObjectShape] = {}
        try:
            lines = path.read_text().splitlines() if path.is_file() else []
            found = [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise DataError(f"{path} can't be read ({error}): delete it to start over") from None
        if found and found[0] != json.loads(json.dumps(facts)):
            raise DataError(f"{path} is of a build with other settings: delete it, or name another output")
        for entry in found[1:]:
            self._keep(entry)
        if not found:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(facts) + "\n")

    def add(self, key: tuple[str, float], shape: ObjectShape | None, rows: list[tuple[str, list[float]]]) -> None:
        """Append a finished object."""
        named = None if shape is None else {n: np.asarray(v).tolist() for n, v in shape._asdict().items()}
        entry = {"object": key[0], "scale": key[1], "shape": named, "grasps": rows}
        with self.path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        self._keep(entry)

    def shapes(self) -> dict[tuple[str, float], ObjectShape]:
        """Shapes of the finished objects."""
        return self._shapes

    def _keep(self, entry: Mapping[str, Any]) -> None:
        key = (entry["object"], float(entry["scale"]))
        self.rows[_name(key)] = [
            {"object": key[0], "scale": key[1], "type": kind, "grasp": vector} for kind, vector in entry["grasps"]
        ]
        if entry["shape"] is not None:
            shape = entry["shape"]
            low, high, center, up = (np.array(shape[name]) for name in ("low", "high", "center", "up"))
            self._shapes[key] = ObjectShape(low, high, center, shape["volume"], up)


def _name(key: tuple[str, float]) -> str:
    return f"{key[0]} {key[1]!r}"


def _check(spec: BuildSpec) -> None:
    for kind in spec.types:
        grasp_type(kind)
    for name in ("per_object", "waves"):
        if getattr(spec, name) < 1:
            raise SettingError(f"{name} must be at least 1, found {getattr(spec, name)}")
    if not spec.objects or not spec.types:
        raise SettingError("a bank needs at least one object and one type")
