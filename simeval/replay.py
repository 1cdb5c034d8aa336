"""From a stored record back to its trial, to run it again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simeval.errors import DataError, SettingError
from simeval.grasp import GraspBatch
from simeval.mesh_suite import MeshObject
from simeval.objects import ObjectLibrary, ObjectModel
from simeval.objects.mesh import SUFFIXES
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Condition, Trial, TrialRecord
from simeval.store import Run, read_run


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A record and all that is needed to run its trial again."""

    folder: Path
    record: TrialRecord
    trial: Trial
    model: ObjectModel
    physics: Physics

    @property
    def task(self) -> Task:
        """What a worker needs to run the trial again."""
        return Task(self.trial, self.model, self.physics)

    def run(self) -> TrialRecord:
        """Run the trial again, in a process of its own: it may be one that crashes."""
        return next(iter(run_tasks([self.task], workers=1)))


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the run folders that are meant: each path is one, or has some below it.

    Raises:
        DataError: a path doesn't exist or has none.
    """
    found: list[Path] = []
    for path in paths:
        here = [path] if (path / "manifest.json").is_file() else sorted(p.parent for p in path.rglob("manifest.json"))
        if not here:
            what = "has no run in it" if path.is_dir() else "no such folder"
            raise DataError(f"{path}: {what}. `simeval run` prints the folder it writes, runs/… unless told --out.")
        found += here
    return list(dict.fromkeys(found))


def find_trial(folders: Sequence[Path], trial_id: str) -> tuple[Path, Run, TrialRecord]:
    """Find a trial by its id, or by as many of the first digits as tell it from all others.

    Raises:
        SettingError: no trial or several begin like this.
    """
    found: dict[str, tuple[Path, Run, TrialRecord]] = {}
    total = 0
    for folder in folders:
        run = read_run(folder)
        total += len(run.records)
        for record in run.records:
            if record.trial_id.startswith(trial_id.lower()):
                found.setdefault(record.trial_id, (folder, run, record))
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise SettingError(f"no trial {trial_id!r} among the {total} of {_named(folders)}")
    some = ", ".join(sorted(found)[:5])
    raise SettingError(f"{len(found)} trials begin with {trial_id!r}: {some}{' …' if len(found) > 5 else ''}")


class StoredObjects:
    """The objects of stored runs, wherever they come from, users' own meshes included; each is loaded once.

    Args:
        data: data folder; None: SIMEVAL_DATA.
        meshes: where meshes lie that aren't where they were, told apart by their files' names; a single one may have
            been renamed.
    """

    def __init__(self, data: Path | None = None, meshes: Sequence[Path] = ()) -> None:
        self._library, self._meshes = ObjectLibrary(data), meshes
        self._own: dict[MeshObject, ObjectModel] = {}

    def load(self, run: Run, code: str, scale: float) -> ObjectModel:
        """Load an object of a run.

        Raises:
            SettingError: no object has this code.
            DataError: the object's data or mesh isn't where it was; the message says how to name it.
        """
        if "mesh" in run.manifest:
            was = MeshObject.from_manifest(run.manifest)
            mesh = replace(was, path=self._place(was.path))
            if mesh not in self._own:
                self._own[mesh] = mesh.load()
            return self._own[mesh]
        if Path(code).suffix.lower() in SUFFIXES:
            code = str(self._place(Path(code)))
        return self._library.load(code, scale)

    def _place(self, was: Path) -> Path:
        renamed = self._meshes[0] if len(self._meshes) == 1 and not was.is_file() else was
        place = next((mesh for mesh in self._meshes if mesh.name == was.name), renamed)
        if not place.is_file():
            raise DataError(f"{place}: no such file. It is a mesh of your own: --mesh FILE says where it lies now.")
        return place


def restore_trial(folder: Path, run: Run, record: TrialRecord, objects: StoredObjects | None = None) -> StoredTrial:
    """Rebuild the trial of a record: its grasp as stored, its object from where objects come from.

    Args:
        folder: where the run lies.
        run: what is in it.
        record: the one of its records that is meant.
        objects: the runs' objects; None: all are where they were, data in SIMEVAL_DATA.

    Raises:
        SettingError: there was no grasp, or the physical settings are of another version.
        DataError: the object is missing or not the one of the run.
    """
    if not record.rotation:
        raise SettingError(f"trial {record.trial_id} has no grasp to replay: {record.outcome} ({record.reason})")
    physics = _physics(folder, run, record)
    model = (objects or StoredObjects()).load(run, record.object_code, record.scale)
    condition = Condition(
        record.object_code, record.scale, record.grasp_type or None, record.index, record.protocol,
        record.physics, record.seed,
    )  # fmt: skip
    trial = Trial(condition, stored_grasp(record), model.digest)
    if trial.trial_id != record.trial_id:
        raise DataError(
            f"{record.object_code} at scale {record.scale:g} is not the object of the run: its geometry "
            f"differs, so its trials can't be repeated. Name its data (--data) or mesh (--mesh)."
        )
    return StoredTrial(folder, record, trial, model, physics)


def stored_grasp(record: TrialRecord) -> GraspBatch:
    """Return the grasp of a record, bit for bit, as a batch of one."""

    def row(values: list[float]) -> np.ndarray | None:
        return np.array([values]) if values else None

    if len(record.rotation) != 9:
        raise DataError(f"trial {record.trial_id} is damaged: its rotation has {len(record.rotation)} numbers, not 9")
    return GraspBatch(
        np.array(record.rotation).reshape(1, 3, 3), np.array([record.translation]),
        np.array([record.joints]), row(record.pregrasp), row(record.squeeze),
        None if np.isnan(record.score) else np.array([record.score]),
    )  # fmt: skip


def _physics(folder: Path, run: Run, record: TrialRecord) -> Physics:
    stored = run.manifest.get("physics", {})
    try:
        physics = Physics(**stored)
    except TypeError:
        physics = None
    if physics is None or physics.digest != record.physics:
        made = run.manifest.get("versions", {}).get("simeval", "?")
        raise SettingError(
            f"{folder} was made with physical settings that this version of simeval doesn't have; "
            f"install the run's own (simeval {made}) to replay it"
        )
    return physics


def _named(folders: Sequence[Path]) -> str:
    return str(folders[0]) if len(folders) == 1 else f"{len(folders)} runs"
