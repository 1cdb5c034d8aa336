"""All that plug-ins have to write: a class with generate(request), one with decide(situation), registered in
pyproject.toml."""

import numpy as np

from simeval.emg.recordings import LABELS
from simeval.generator import GraspRequest
from simeval.grasp import GraspBatch
from simeval.trials.policies import Decision, Rejection, Situation


class Stranger:
    """The palm above the object, facing down, at a height that is a setting."""

    def __init__(self, height: float = 0.1):
        self.height = height

    def generate(self, request: GraspRequest) -> GraspBatch:
        rng = np.random.default_rng(request.seed)
        rotation = np.tile([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], (request.count, 1, 1))
        shift = rng.normal((0, 0, self.height), 0.01, size=(request.count, 3))
        return GraspBatch(rotation, request.object.center_of_mass + shift, np.zeros((request.count, 22)))


class SecondGuess:
    """A policy: the type that is the second likeliest, or another in that order."""

    def __init__(self, rank: int = 1):
        self.rank = rank

    def decide(self, situation: Situation) -> Decision | Rejection:
        posterior = situation.listen()
        return Decision(LABELS[int(np.argsort(-posterior)[self.rank])])
