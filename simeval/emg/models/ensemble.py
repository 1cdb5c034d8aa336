"""Several classifiers as one."""

import numpy as np

from simeval.emg.models.base import Classifier, Tensors
from simeval.emg.models.config import EnsembleConfig
from simeval.emg.recordings import Recordings
from simeval.grasp import Array


class Ensemble:
    """See `Classifier`: the geometric mean of its parts' posteriors."""

    def __init__(self, config: EnsembleConfig, parts: list[Classifier]) -> None:
        self.config = config
        self.parts = parts

    def fit(self, train: Recordings, seed: int = 0, align: bool = False) -> None:
        """See `Classifier`."""
        for part in self.parts:
            part.fit(train, seed, align)

    def adapt(self, signals: Array) -> None:
        """See `Classifier`."""
        for part in self.parts:
            part.adapt(signals)

    def calibrate(self, trials: Recordings, seed: int = 0) -> None:
        """See `Classifier`."""
        for part in self.parts:
            part.calibrate(trials, seed)

    def predict_proba(self, signals: Array) -> Array:
        """See `Classifier`."""
        return combine([part.predict_proba(signals) for part in self.parts])

    def tensors(self) -> Tensors:
        """See `Classifier`."""
        return {f"{i}/{name}": value for i, part in enumerate(self.parts) for name, value in part.tensors().items()}

    def restore(self, tensors: Tensors) -> None:
        """See `Classifier`."""
        for i, part in enumerate(self.parts):
            start = f"{i}/"
            part.restore({name.removeprefix(start): v for name, v in tensors.items() if name.startswith(start)})


def combine(posteriors: list[Array]) -> Array:
    """Geometric mean of (N, 6) posteriors, each kept from being sure by a thousandth."""
    from scipy.special import softmax

    return np.asarray(softmax(np.mean([np.log(p + 1e-3) for p in posteriors], axis=0), axis=1), dtype=np.float64)
