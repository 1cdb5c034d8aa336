"""Classifiers by name."""

from importlib.resources import files
from pathlib import Path

from simeval.emg.models.config import Augmentation, ClassicalConfig, Config, EnsembleConfig, NetworkConfig
from simeval.emg.spectrogram import SOURCE
from simeval.errors import unknown_name

_LDA, _SVM = ClassicalConfig(kind="lda"), ClassicalConfig(kind="svm")
_LDA_RECENT, _SVM_RECENT = _LDA.model_copy(update={"recent": 15}), _SVM.model_copy(update={"recent": 20})
_BAND_NET = NetworkConfig(augment=Augmentation(gain=0.15, mixup=0.5), temperature=0.45)
_PLAIN = NetworkConfig()
_RESNET = NetworkConfig(architecture="resnet18", width=32, epochs=40, steps=1, augment=Augmentation(noise=0.25))

PRESETS: dict[str, Config] = {
    "lda": _LDA,
    "svm": _SVM,
    "resnet18": _RESNET,
    "resnet18-source": NetworkConfig(
        architecture="resnet18", width=64, spectrogram=SOURCE, standardise=False, augment=None, optimizer="sgd",
        learning_rate=1e-3, schedule="constant", weight_decay=0, label_smoothing=0, batch=10, epochs=30,
        steps=1,
    ),
    "band-net": _BAND_NET,
    "band-net-plain": _PLAIN,
    "general": NetworkConfig(frames=7, steps=3000),
    "ensemble": EnsembleConfig(parts=(_BAND_NET, _SVM)),
    "ensemble-plain": EnsembleConfig(parts=(_PLAIN, _SVM)),
    "lda-recent": _LDA_RECENT,
    "svm-recent": _SVM_RECENT,
    "ensemble-recent": EnsembleConfig(parts=(_BAND_NET, _SVM_RECENT, _LDA_RECENT)),
}  # fmt: skip
"""Classifiers by name; `resnet18-source` is the source system's; `general` decides on windows of 1 s; `…-recent` are
for the rest of a day; `…-plain` are those before gains were drawn from a wider range and trials blended.

Chosen by `chronological-validation` on Database 2 (results/emg.md has its numbers), resnet18's noise and epochs on the
validation tenth of `pooled`."""


def preset(name: str) -> Config:
    """Return a configuration by its name.

    Raises:
        SettingError: there is no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("model", name, PRESETS)
    return PRESETS[name]


def shipped() -> Path:
    """Return the folder of the model that comes with simeval: `general`, trained on the real recordings."""
    return Path(str(files("simeval.emg.models") / "general"))
