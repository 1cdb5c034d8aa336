"""Make classifiers by preset or configuration; save and load them as config.json and model.safetensors, no pickles."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from simeval.emg.models.base import Classifier
from simeval.emg.models.config import Config
from simeval.emg.recordings import CHANNELS, Recordings
from simeval.errors import DataError
from simeval.grasp import Array

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LEVELS = "levels"
_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A fitted classifier, and what it was fitted on as far as streaming needs it."""

    config: Config
    classifier: Classifier
    levels: Array  # (2, C) weakest and strongest standard deviation of a window of training trials [V]

    @property
    def window(self) -> int:
        """Samples that a decision needs."""
        return window_samples(self.config)


def window_samples(config: Config) -> int:
    """Samples of the shortest trial that a classifier of this configuration takes."""
    if config.kind == "ensemble":
        return max(window_samples(part) for part in config.parts)
    if config.kind == "network" and config.frames:
        return (config.frames + 1) * config.spectrogram.window // 2
    return config.samples


def train_classifier(config: Config, recordings: Recordings, seed: int = 0) -> Trained:
    """Fit a classifier on all trials of checked recordings.

    Raises:
        DataError: too few or too short trials.
    """
    classifier = make_classifier(config)
    classifier.fit(recordings, seed)
    window = min(window_samples(config), recordings.signals.shape[2])
    count = recordings.signals.shape[2] // window
    parts = np.stack(np.split(recordings.signals[:, :, : count * window], count, axis=2))
    deviation = parts.std(axis=3).reshape(-1, recordings.signals.shape[1])
    return Trained(config, classifier, np.quantile(deviation, (0.001, 0.999), axis=0))


def make_classifier(config: Config) -> Classifier:
    """Return an untrained classifier."""
    from simeval.emg.models.classical import Classical
    from simeval.emg.models.ensemble import Ensemble
    from simeval.emg.models.neural import Network

    if config.kind == "ensemble":
        return Ensemble(config, [make_classifier(part) for part in config.parts])
    return Network(config) if config.kind == "network" else Classical(config)


def save_classifier(folder: Path, trained: Trained) -> None:
    """Write `config.json` and `model.safetensors`, weights in half precision."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = trained.classifier.tensors() | {LEVELS: trained.levels.astype(np.float32)}
    save_file({k: _halved(v) for k, v in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(trained.config.model_dump_json(indent=1) + "\n")


def load_classifier(folder: Path) -> Trained:
    """Read a classifier.

    Raises:
        DataError: a file is missing, damaged, or the weights aren't those of the configuration.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = read_config(folder / CONFIG)
    path = folder / WEIGHTS
    try:
        found = load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `simeval emg train` makes one") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as weights: {error}") from None
    if not all(np.isfinite(value).all() for value in found.values()):
        raise DataError(f"{path} holds weights that are not finite")
    classifier = make_classifier(config)
    try:
        tensors = {k: np.asarray(v, dtype=np.float32) for k, v in found.items()}
        levels = tensors.pop(LEVELS).astype(np.float64)
        if levels.shape != (2, len(CHANNELS)):
            raise ValueError(f"levels have shape {levels.shape}, expected {(2, len(CHANNELS))}")
        classifier.restore(tensors)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} doesn't fit {folder / CONFIG}: {error}") from None
    return Trained(config, classifier, levels)


def read_config(path: Path) -> Config:
    """Read a classifier's configuration.

    Raises:
        DataError: it isn't there, no JSON, or no configuration.
    """
    try:
        return _ADAPTER.validate_python(json.loads(path.read_text()))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None


def _halved(value: np.ndarray) -> np.ndarray:
    """Half precision where it holds the numbers."""
    half = value.astype(np.float16)
    return half if np.isfinite(half).all() and value.ndim > 1 else np.ascontiguousarray(value)
