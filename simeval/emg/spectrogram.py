"""Spectrograms of trials: the source system's, and detrended log-power ones."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simeval.grasp import Array

LOWEST_HZ = 8
SOURCE_SAMPLES = 2500
"""The source system uses the first five seconds of a trial."""


class Spectrogram(BaseModel):
    """How a signal becomes an image of (channels, bands, frames)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["log-power", "magnitude-min-max"] = "log-power"
    """The latter is the source system's: not detrended, magnitudes, each image scaled to 0…1."""
    window: int = Field(default=128, ge=16)
    """Samples of the Hann window; half of them overlap."""
    bands: int = Field(default=32, ge=1)
    """Neighbouring bins are averaged to so many bands (log-power only); the first bins, below 8 Hz, are left out."""

    def shape(self, samples: int) -> tuple[int, int]:
        """Bands and frames of a signal of so many samples."""
        frames = (samples - self.window) // (self.window // 2) + 1
        return (self.bands if self.kind == "log-power" else self.window // 2 + 1), frames

    def bins(self, rate: float) -> int:
        """Bins of a log-power spectrum that are averaged to bands."""
        return self.window // 2 + 1 - max(1, round(LOWEST_HZ * self.window / rate))

    def __call__(self, signals: Array, rate: float) -> Array:
        """Return (N, C, bands, frames) of (N, C, T) signals [V] at `rate` [Hz]; log-power is the logarithm of V²."""
        from scipy.signal import stft

        log = self.kind == "log-power"
        x = signals - signals.mean(axis=-1, keepdims=True) if log else signals
        _, _, found = stft(
            x, rate, window="hann", nperseg=self.window, noverlap=self.window // 2, boundary=None, padded=False
        )
        if not log:
            magnitude = np.abs(found)
            low, high = magnitude.min(axis=(2, 3), keepdims=True), magnitude.max(axis=(2, 3), keepdims=True)
            return (magnitude - low) / np.maximum(high - low, 1e-12)
        power = np.abs(found[:, :, -self.bins(rate) :]) ** 2
        groups = np.array_split(np.arange(power.shape[2]), self.bands)
        return np.log(np.stack([power[:, :, group].mean(axis=2) for group in groups], axis=2) + 1e-7)


SOURCE = Spectrogram(kind="magnitude-min-max", window=256)
"""The source system's."""
