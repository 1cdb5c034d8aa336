"""Classifiers by name."""

from importlib.resources import files
from pathlib import Path

from simeval.emg.models.config import ClassicalConfig, Config, EnsembleConfig, NetworkConfig
from simeval.emg.spectrogram import SOURCE
from simeval.errors import unknown_name

_LDA, _SVM = ClassicalConfig(kind="lda"), ClassicalConfig(kind="svm")
_LDA_RECENT, _SVM_RECENT = _LDA.model_copy(update={"recent": 15}), _SVM.model_copy(update={"recent": 20})
_BAND_NET = NetworkConfig()
_RESNET = NetworkConfig(architecture="resnet18", width=32, epochs=20, steps=1)

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
    "general": NetworkConfig(frames=7, steps=3000),
    "ensemble": EnsembleConfig(parts=(_BAND_NET, _SVM)),
    "lda-recent": _LDA_RECENT,
    "svm-recent": _SVM_RECENT,
    "ensemble-recent": EnsembleConfig(parts=(_BAND_NET, _SVM_RECENT, _LDA_RECENT)),
}  # fmt: skip
"""Classifiers by name; `resnet18-source` is the source system's; `general` decides on windows of 1 s; `…-recent` are
for the rest of a day.

How many are recent was chosen within the first halves of the days of Database 2, trained on the first 25 to 40
repetitions and tested on the rest of 50. Accuracy, mean of four such splits: lda 89.5 %, with the last 10, 15 and 20
trials of each grasp 92.1, 91.7 and 91.1; svm 91.2, with 20 and 25 92.8 and 92.3; band-net 92.8, with 20 no better;
ensemble-recent 93.5."""


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
