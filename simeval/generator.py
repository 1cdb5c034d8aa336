"""What a grasp generator is: a request in, a GraspBatch out."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from simeval.grasp import GraspBatch
from simeval.objects.model import ObjectModel


@dataclass(frozen=True, slots=True)
class GraspRequest:
    """Ask for `count` grasps of one object; every random draw comes from `seed`."""

    object: ObjectModel
    grasp_type: str | None  # a name of simeval.taxonomy, or None: any
    count: int
    seed: int


@runtime_checkable
class Generator(Protocol):
    """All that a plug-in must write.

    Register a class (or a factory) under the entry-point group `simeval.generators`. Its keyword parameters are
    its settings (`--set name=value`, converted by their annotations); a parameter called `data` receives the data
    folder. Fewer grasps than asked for is allowed: the missing ones are recorded as GENERATOR_FAILED.
    An attribute `fingerprint` (text), where there is one, names what the settings don't tell, such as a digest of
    weights; it becomes part of a run's identity, so that new weights start a new run.
    """

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return up to `request.count` grasps; the same request gives the same grasps."""
        ...


@runtime_checkable
class Refiner(Protocol):
    """What makes other generators' grasps better (`--refine`).

    Registered like a generator, under the entry-point group `simeval.refiners`.
    """

    def refine(self, model: ObjectModel, grasps: GraspBatch, grasp_type: str | None, seed: int) -> GraspBatch:
        """Return as many grasps in the same order, of the type that was asked for; None: each of its own."""
        ...
