"""All that a plug-in has to write: a class with generate(request), registered in pyproject.toml."""

import numpy as np

from simeval.generator import GraspRequest
from simeval.grasp import GraspBatch


class Stranger:
    """The palm above the object, facing down, at a height that is a setting."""

    def __init__(self, height: float = 0.1):
        self.height = height

    def generate(self, request: GraspRequest) -> GraspBatch:
        rng = np.random.default_rng(request.seed)
        rotation = np.tile([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], (request.count, 1, 1))
        shift = rng.normal((0, 0, self.height), 0.01, size=(request.count, 3))
        return GraspBatch(rotation, request.object.center_of_mass + shift, np.zeros((request.count, 22)))
