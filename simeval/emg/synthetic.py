"""Synthetic surface EMG: for the embedded default and the tests, never a result about people.

Amplitude-modulated, band-limited noise, the usual phenomenological model (Hogan & Mann 1980, *IEEE Trans. Biomed. Eng.*
27(7); spectrum as in Shwedyk et al. 1977, ibid. 24(5)). A grasp fixes each channel's level, spectrum and time course;
a subject multiplies levels and shifts spectra, a session does so again but less, and a trial varies a little. Then the
recorder: offset 0.14 V, drift, some mains hum, quantisation, as in the UCI recordings.
"""

import numpy as np

from simeval.emg.recordings import LABELS, RATE, Recordings
from simeval.grasp import Array

OFFSET_V = 0.14
STEP_V = 0.0043
HUM_V = 0.01
# log level of both channels relative to 0.4 V, shift of the spectrum's centre in octaves, and how sharp the onset is
_GRASPS = {
    "cylindrical": ((0.2, 0.4), (0.0, 0.1), 2.0),
    "planar": ((-0.9, -0.4), (0.3, 0.2), 1.0),
    "spherical": ((0.9, 0.6), (-0.2, 0.0), 3.0),
    "tip": ((-1.3, 0.0), (0.1, -0.2), 1.5),
    "lateral": ((-1.2, -0.9), (-0.1, 0.3), 0.7),
    "hook": ((0.3, -0.3), (-0.3, -0.3), 2.5),
}


def make_synthetic(
    subjects: int = 3,
    sessions: int = 2,
    repetitions: int = 12,
    seconds: float = 5.0,
    seed: int = 0,
) -> Recordings:
    """Generate trials of all six grasps.

    Args:
        subjects: people.
        sessions: days of each.
        repetitions: trials of each grasp in a session.
        seconds: of a trial.
        seed: of everything; the same seed gives the same bits.
    """
    rng = np.random.default_rng(seed)
    signals, labels, people, days, order = [], [], [], [], []
    for subject in range(subjects):
        person = rng.normal(0, 0.35, (2, 2, len(LABELS)))  # level and spectrum, channel, grasp
        for session in range(sessions):
            day = person + rng.normal(0, 0.15, (2, 2, 1))
            for label in LABELS:
                for repetition in range(repetitions):
                    level, shift = day[:, :, LABELS.index(label)] + rng.normal(0, 0.08, (2, 2))
                    signals.append(_trial(label, level, shift, round(seconds * RATE), rng))
                    labels.append(label)
                    people.append(f"synthetic_{subject + 1}")
                    days.append(f"synthetic_{subject + 1}_day_{session + 1}")
                    order.append(repetition)
    return Recordings(
        np.stack(signals), np.array(labels), np.array(people), np.array(days), np.array(order), RATE, "synthetic",
        f"synthetic, seed {seed}",
    )  # fmt: skip


def _trial(label: str, level: Array, shift: Array, samples: int, rng: np.random.Generator) -> Array:
    """(2, T) V of one trial; level [log] and shift [octaves] are what subject, day and chance add."""
    levels, shifts, onset = _GRASPS[label]
    time = np.arange(samples) / RATE
    start = rng.uniform(0.1, 0.5)
    envelope = 0.25 + 0.75 / (1 + np.exp(-8 * onset * (time - start)))
    envelope *= np.exp(0.12 * np.cumsum(rng.normal(size=samples)) / np.sqrt(samples))
    channels = []
    for c in range(2):
        centre = 90 * 2 ** (shifts[c] + shift[c])
        muscle = 0.4 * np.exp(levels[c] + level[c]) * envelope * _band_noise(samples, centre, rng)
        drift = 0.005 * np.sin(2 * np.pi * rng.uniform(0.05, 0.3) * time + rng.uniform(0, 2 * np.pi))
        hum = HUM_V * np.sin(2 * np.pi * 50 * time + rng.uniform(0, 2 * np.pi))
        channels.append(OFFSET_V + muscle + drift + hum + rng.normal(0, 0.01, samples))
    return np.round(np.stack(channels) / STEP_V) * STEP_V


def _band_noise(samples: int, centre: float, rng: np.random.Generator) -> Array:
    """(T,) noise of unit variance with a spectrum that rises from 15 Hz, peaks near `centre` [Hz] and falls."""
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    shape = (frequency / centre) ** 2 / (1 + (frequency / centre) ** 4) * (frequency > 15)
    noise = np.fft.irfft(shape * np.fft.rfft(rng.normal(size=samples)), samples)
    return noise / noise.std()
