"""Make classifiers by preset or configuration; save and load them as config.json and model.safetensors, no pickles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from simeval.configuration import read_config, read_weights
from simeval.emg.models.base import Classifier
from simeval.emg.models.config import Config
from simeval.emg.models.presets import PRESETS
from simeval.emg.recordings import CHANNELS, Recordings
from simeval.errors import DataError, unknown_name
from simeval.files import completed, make_folder
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


def train_classifier(config: Config, recordings: Recordings, seed: int = 0, device: str = "cpu") -> Trained:
    """Fit a classifier on all trials of checked recordings.

    Raises:
        DataError: too few or too short trials.
    """
    classifier = make_classifier(config, device)
    classifier.fit(recordings, seed)
    window = min(window_samples(config), recordings.signals.shape[2])
    count = recordings.signals.shape[2] // window
    parts = np.stack(np.split(recordings.signals[:, :, : count * window], count, axis=2))
    deviation = parts.std(axis=3).reshape(-1, recordings.signals.shape[1])
    return Trained(config, classifier, np.quantile(deviation, (0.001, 0.999), axis=0))


def make_classifier(config: Config, device: str = "cpu") -> Classifier:
    """Return an untrained classifier; a network trains on `device`, as torch names it."""
    from simeval.emg.models.classical import Classical
    from simeval.emg.models.ensemble import Ensemble
    from simeval.emg.models.neural import Network

    if config.kind == "ensemble":
        return Ensemble(config, [make_classifier(part, device) for part in config.parts])
    return Network(config, device) if config.kind == "network" else Classical(config)


def save_classifier(folder: Path, trained: Trained) -> None:
    """Write `config.json` and `model.safetensors`, weights in half precision.

    Raises:
        DataError: it can't be written.
    """
    from safetensors.numpy import save

    make_folder(folder)
    tensors = trained.classifier.tensors() | {LEVELS: trained.levels.astype(np.float32)}
    with completed(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(save({k: _halved(v) for k, v in tensors.items()}))
    with completed(folder / CONFIG) as unfinished:
        unfinished.write_text(trained.config.model_dump_json(indent=1) + "\n")


def find_config(model: str) -> Config:
    """Return the configuration that is meant: a preset's, or that of a folder of `simeval emg train`.

    Raises:
        SettingError: neither.
        DataError: the folder's can't be read.
    """
    if model in PRESETS:
        return PRESETS[model]
    if not Path(model).is_dir():
        raise unknown_name("model", model, PRESETS, "A folder that `simeval emg train` wrote works too.")
    return read_config(Path(model) / CONFIG, _ADAPTER)


def load_classifier(folder: Path) -> Trained:
    """Read a classifier.

    Raises:
        DataError: a file is missing, damaged, or the weights aren't those of the configuration.
    """
    config = read_config(folder / CONFIG, _ADAPTER)
    path = folder / WEIGHTS
    found = read_weights(path, "simeval emg train").tensors
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


def _halved(value: np.ndarray) -> np.ndarray:
    """Half precision where it holds the numbers."""
    half = value.astype(np.float16)
    return half if np.isfinite(half).all() and value.ndim > 1 else np.ascontiguousarray(value)
