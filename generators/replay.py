"""Replay: the grasps that a bank has for exactly this object. The ceiling of every table."""

from pathlib import Path

from simeval.bank import bank_fingerprint, object_bank
from simeval.generator import GraspRequest
from simeval.grasp import GraspBatch


class Replay:
    """Return a bank's grasps of the object at its scale (and of the type asked for), in the bank's order.

    Where the bank has fewer than asked for, fewer come back.
    """

    def __init__(self, bank: str = "", data: Path | None = None) -> None:
        """Check that the bank is there; see `simeval.bank.load_bank` for its names and errors."""
        self.bank, self.data = bank, data
        self.fingerprint = bank_fingerprint(bank, data)

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return the first `count` grasps, bit for bit as they are in the bank."""
        model = request.object
        known = object_bank(self.bank, self.data, model.code)
        return known.for_object(model.code, model.scale, request.grasp_type)[: request.count]
