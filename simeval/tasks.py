"""From a planned run's requests to simulation tasks: seeds, generation, and what a generator may do wrong."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from simeval.errors import plugin_fault
from simeval.generator import GraspRequest
from simeval.grasp import GraspBatch
from simeval.objects import ObjectModel
from simeval.physics.execute import blank_record
from simeval.physics.pool import Task
from simeval.records import Condition, Outcome, Trial, TrialRecord
from simeval.suites import Request

if TYPE_CHECKING:
    from simeval.run import PlannedRun

_REASON_LENGTH = 300

log = logging.getLogger(__name__)


def tasks(planned: "PlannedRun", recorded: Mapping[str, str], failed: Callable[[TrialRecord], None]) -> Iterator[Task]:
    """Yield what is to be simulated and hand over the records of what was never generated.

    `recorded` maps the conditions that are stored to their trials; a request of which none is missing isn't
    generated.
    """
    changed = 0
    for request in planned.spec.suite.requests:
        model = planned.objects[request.object, request.scale]
        conditions = [
            Condition(
                request.object, request.scale, request.grasp_type, index, protocol,
                planned.spec.physics.digest, planned.spec.suite.seed,
            )
            for index in range(request.count)
            for protocol in planned.protocols
        ]  # fmt: skip
        if all(c.condition_id in recorded for c in conditions):
            continue
        grasps, reason = attempt(planned, request, model)
        for condition in conditions:
            grasp = grasps[condition.index] if condition.index < len(grasps) else None
            trial = Trial(condition, grasp, model.digest, reason if grasp is None else "")
            if condition.condition_id in recorded:
                changed += recorded[condition.condition_id] != trial.trial_id
            elif grasp is None:
                failed(blank_record(trial, Outcome.GENERATOR_FAILED, reason))
            else:
                yield Task(trial, model, planned.spec.physics)
    if changed:
        log.warning(
            "%s gave other grasps than before for %d stored trials (they are kept): it draws from something "
            "else than the request's seed, or it was changed since. --fresh starts over.",
            planned.spec.generator, changed,
        )  # fmt: skip


def attempt(planned: "PlannedRun", request: Request, model: ObjectModel) -> tuple[GraspBatch, str]:
    """Ask the generator; return what it gave and why the rest is missing. Nothing it does ends the run."""
    seed = request_seed(planned.spec.suite.seed, request)
    try:
        found = planned.generator.generate(GraspRequest(model, request.grasp_type, request.count, seed))
        if not isinstance(found, GraspBatch):
            return GraspBatch.empty(), f"generate() gave {type(found).__name__}, expected a GraspBatch"
        if len(found) > request.count:
            return GraspBatch.empty(), f"generate() gave {len(found)} grasps, {request.count} were asked for"
        if planned.refiner:
            better = planned.refiner.refine(model, found, request.grasp_type, seed)
            if not isinstance(better, GraspBatch) or len(better) != len(found):
                return GraspBatch.empty(), f"refine() gave {better!r:.60} for {len(found)} grasps"
            found = better
        if planned.spec.pose_noise:
            found = planned.spec.pose_noise.apply(found, seed)
    except BaseException as error:
        reason = plugin_fault(error)
        log.debug("%s failed on %s", planned.spec.generator, request, exc_info=True)
        return GraspBatch.empty(), reason[:_REASON_LENGTH]
    return found, f"generate() gave {len(found)} grasps, {request.count} were asked for"


def request_seed(suite_seed: int, request: Request) -> int:
    """Seed of a request, whatever its count and place in the suite; 31 bits, so that any library takes it."""
    return int(digest([suite_seed, request.object, request.scale, request.type]), 16) >> 1


def digest(values: list[Any]) -> str:
    """8 hex digits that name some plain values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
