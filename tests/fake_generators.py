"""Generators for tests, registered without being installed; run as a script, this is `simeval` with them."""

import contextlib
import time
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import patch

import numpy as np

from simeval import registry
from simeval.errors import DataError
from simeval.generator import GraspRequest
from simeval.grasp import GraspBatch

CALLS: list[GraspRequest] = []


class Steady:
    """Grasps around a cylinder, shaken a little by the request's seed.

    For a hook it waits, up to `wait` seconds, until there is a file `go`, having made the file `waiting`.
    """

    def __init__(self, bank: str = "", spread: float = 0.002, wait: float = 0.0):
        if bank == "nowhere":
            raise DataError("no bank 'nowhere'. Available: none.")
        if spread < 0:
            raise ZeroDivisionError("a bug in the constructor")
        self.bank, self.spread, self.wait = bank, spread, wait

    def generate(self, request: GraspRequest) -> GraspBatch:
        CALLS.append(request)
        if self.wait and request.grasp_type == "hook":
            Path("waiting").touch()
            deadline = time.monotonic() + self.wait
            while not Path("go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        rng = np.random.default_rng(request.seed)
        return self.around(request, rng)

    def around(self, request: GraspRequest, rng: np.random.Generator) -> GraspBatch:
        from simeval.commands.doctor import trial_task

        grasp = trial_task().trial.grasp
        assert grasp is not None
        wrists = grasp.translation + self.spread * rng.normal(size=(request.count, 3))
        many = np.repeat(np.arange(1), request.count)
        return grasp[many].with_(translation=wrists)


class Moody(Steady):
    """Gives other grasps every time."""

    def generate(self, request: GraspRequest) -> GraspBatch:
        return self.around(request, np.random.default_rng())


class Failing(Steady):
    """Fails in a way that is chosen."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how

    def generate(self, request: GraspRequest) -> GraspBatch:
        found = super().generate(request)
        if self.how == "raises":
            raise RuntimeError("out of\n ideas")
        if self.how == "exits":
            raise SystemExit(0)
        if self.how == "speechless":
            raise Speechless
        return {
            "few": found[:1], "none": found[:0], "many": GraspBatch.concatenate([found, found]),
            "type": found.joints, "nan": found.with_(joints=found.joints * np.nan),
        }[self.how]  # type: ignore[return-value]  # fmt: skip


class Speechless(BaseException):
    """Not even its message can be had."""

    def __str__(self) -> str:
        raise ValueError


class Fingerprinted(Steady):
    """Says which weights it has."""

    def __init__(self, weights: str = "a"):
        super().__init__()
        self.fingerprint = {"a": "11", "b": "22"}[weights]


class Unnamed(Steady):
    """Fails to say which weights it has."""

    @property
    def fingerprint(self) -> str:
        """Raise."""
        raise OSError("weights are gone")


class Quoted(Steady):
    """Its settings are annotated with what isn't imported."""

    def __init__(self, spread: "Distance" = 0.002):  # type: ignore[name-defined]  # noqa: F821
        super().__init__(spread=spread)


def quits() -> object:
    """End the process."""
    raise SystemExit(5)


NUMBER = 3


def no_generate() -> object:
    """Give something that is no generator."""
    return object()


NAMES = {
    "steady": "Steady", "moody": "Moody", "failing": "Failing", "fingerprinted": "Fingerprinted",
    "nothing": "no_generate", "broken": "NotThere", "unnamed": "Unnamed", "quits": "quits", "number": "NUMBER",
    "quoted": "Quoted",
}  # fmt: skip


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Make the fakes the only generators there are."""
    entries = {n: EntryPoint(n, f"fake_generators:{attr}", registry.GROUP) for n, attr in NAMES.items()}
    real = registry._entry_points

    def known(group: str = registry.GROUP) -> dict[str, EntryPoint]:
        return entries if group == registry.GROUP else real(group)

    with patch.object(registry, "_entry_points", known):
        yield


if __name__ == "__main__":
    from simeval.cli import main

    with registered():
        main()
