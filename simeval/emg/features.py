"""Time and frequency features of surface EMG, one row per trial.

Each is a function of (N, C, T) signals [V] at `rate` [Hz] that returns (N, F); the mean is taken off first. Levels are
logarithms, so that gains add. Sources: Hudgins, Parker & Scott 1993, *IEEE Trans. Biomed. Eng.* 40(1), for the set of
that name; Khushaba et al. 2016, *Expert Syst. Appl.* 61, for power-spectral moments (TD-PSD); Phinyomark et al. 2012,
*Expert Syst. Appl.* 39(8), for the rest.
"""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from simeval.errors import unknown_name
from simeval.grasp import Array

NOISE_V = 0.02
"""Differences below this don't count as crossings or turns: five steps of the finer recorder."""
ORDER = 6
"""Of the autoregressive model."""
LOWEST_HZ, BANDS = 8.0, 12
SEGMENTS = 10
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.97, 0.995)
_TINY = 1e-12
MOST_REMEMBERED = 20_000
_REMEMBERED: dict[bytes, Array] = {}
"""Features by content of the trial: folds share most of their trials."""


def hudgins(signals: Array, rate: float) -> Array:
    """Mean absolute value, root mean square, waveform length (logarithms), zero crossings, slope sign changes."""
    x = _centred(signals)
    step = np.diff(x)
    crossings = (x[..., 1:] * x[..., :-1] < 0) & (np.abs(step) > NOISE_V)
    large = np.maximum(np.abs(step[..., 1:]), np.abs(step[..., :-1])) > NOISE_V
    turns = (step[..., 1:] * step[..., :-1] < 0) & large
    mean, root, length = np.abs(x).mean(-1), np.sqrt((x**2).mean(-1)), np.abs(step).mean(-1)
    parts = [*(np.log(v + _TINY) for v in (mean, root, length)), crossings.mean(-1), turns.mean(-1)]
    return _flat(np.stack(parts, axis=-1))


def autoregressive(signals: Array, rate: float) -> Array:
    """Coefficients of an autoregressive model of order 6 (Yule–Walker)."""
    x = _centred(signals)
    length = x.shape[-1]
    r = np.stack([(x[..., : length - k] * x[..., k:]).sum(-1) for k in range(ORDER + 1)], axis=-1)
    matrix = r[..., np.abs(np.arange(ORDER)[:, None] - np.arange(ORDER))]
    matrix = matrix + (1e-9 * r[..., :1, None] + _TINY) * np.eye(ORDER)
    return _flat(np.linalg.solve(matrix, r[..., 1:, None])[..., 0])


def spectral_moments(signals: Array, rate: float) -> Array:
    """TD-PSD: logarithms of the root moments 0, 2, 4 of the spectrum, sparseness, ratio of waveform lengths."""
    x = _centred(signals)
    first, second = np.diff(x), np.diff(x, n=2)
    m0, m2, m4 = (np.log(np.sqrt((v**2).mean(-1)) + _TINY) for v in (x, first, second))
    ratio = np.log(np.abs(first).mean(-1) + _TINY) - np.log(np.abs(second).mean(-1) + _TINY)
    return _flat(np.stack([m0, m2, m4, m2 - (m0 + m4) / 2, ratio], axis=-1))


def band_powers(signals: Array, rate: float) -> Array:
    """Log-power in 12 bands from 8 Hz to half the rate, evenly spaced in octaves (Welch's method)."""
    from scipy.signal import welch

    frequency, power = welch(_centred(signals), rate, nperseg=min(256, signals.shape[-1]))
    edges = np.geomspace(LOWEST_HZ, rate / 2, BANDS + 1)
    least = 1.01 * frequency[1]  # a band holds one bin at least
    bands = [
        power[..., (frequency >= low) & (frequency < max(high, low + least))].mean(-1) for low, high in pairwise(edges)
    ]
    return _flat(np.log(np.stack(bands, axis=-1) + _TINY))


def time_course(signals: Array, rate: float) -> Array:
    """Log root mean square of ten equal parts of the trial: how the grasp comes about."""
    x = _centred(signals)
    parts = np.array_split(x, SEGMENTS, axis=-1)
    return _flat(np.log(np.stack([np.sqrt((part**2).mean(-1)) for part in parts], axis=-1) + 1e-3))


def amplitudes(signals: Array, rate: float) -> Array:
    """Log quantiles of the absolute amplitude, log kurtosis and skewness."""
    x = signals - np.median(signals, axis=-1, keepdims=True)
    quantiles = np.moveaxis(np.quantile(np.abs(x), QUANTILES, axis=-1), 0, -1)
    square = (x**2).mean(-1) + _TINY
    kurtosis, skewness = (x**4).mean(-1) / square**2, (x**3).mean(-1) / square**1.5
    parts = [np.log(quantiles + 5e-3), np.log(kurtosis + _TINY)[..., None], np.clip(skewness, -3, 3)[..., None]]
    return _flat(np.concatenate(parts, axis=-1))


FEATURES: dict[str, Callable[[Array, float], Array]] = {
    "hudgins": hudgins,
    "autoregressive": autoregressive,
    "spectral-moments": spectral_moments,
    "band-powers": band_powers,
    "time-course": time_course,
    "amplitudes": amplitudes,
}
"""Feature functions by name."""


def feature_matrix(signals: Array, rate: float, names: Sequence[str] = tuple(FEATURES)) -> Array:
    """Return (N, F), the named features side by side; those of a trial seen before are remembered.

    Raises:
        SettingError: there is no such feature.
    """
    for name in names:
        if name not in FEATURES:
            raise unknown_name("feature", name, FEATURES)
    kind = f"{names} {rate} {signals.shape[1:]}".encode()
    keys = [hashlib.blake2b(signal.tobytes(), key=hashlib.blake2b(kind).digest()).digest() for signal in signals]
    if missing := [i for i, key in enumerate(keys) if key not in _REMEMBERED]:
        found = np.concatenate([FEATURES[name](signals[missing], rate) for name in names], axis=1)
        _REMEMBERED.update(zip((keys[i] for i in missing), found, strict=True))
    rows = np.stack([_REMEMBERED[key] for key in keys])
    if len(_REMEMBERED) > MOST_REMEMBERED:
        _REMEMBERED.clear()
    return rows


def _centred(signals: Array) -> Array:
    return signals - signals.mean(axis=-1, keepdims=True)


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1)
