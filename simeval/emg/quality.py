"""What a signal must have before anything is read into it: checks of whole recordings and of single windows."""

from typing import NamedTuple

import numpy as np

from simeval.emg.recordings import CHANNELS, RATE, Recordings
from simeval.errors import DataError
from simeval.grasp import Array

SHORTEST_S = 0.25
"""Below this nothing is decided: a spectrum of 15–250 Hz needs it."""
RATE_TOLERANCE = 0.01
MAINS_HZ = (50.0, 60.0)
MAINS_SHARE = 0.9
"""Share of the power within 2 Hz of the mains frequency and its harmonics; some weak UCI trials have 0.75."""
CLIPPED_SHARE = 0.02
"""Share of the samples in runs of three and more at the largest or smallest value; none in UCI's trials."""
FLAT_LEVELS = 3
"""A channel with fewer different values than this is flat."""


class Fault(NamedTuple):
    """Why a signal can't be classified."""

    name: str  # not-finite, flat, clipped or mains
    message: str


def check_rate(rate: float, source: str) -> None:
    """Raise DataError where a sampling rate isn't the one that models are made for."""
    if not abs(rate - RATE) <= RATE_TOLERANCE * RATE:
        raise DataError(
            f"{source}: {rate:g} samples per second, expected {RATE:g}. Resample it first, "
            "for instance with scipy.signal.resample_poly."
        )


def check_recordings(recordings: Recordings) -> None:
    """Check what goes into training and evaluation.

    Raises:
        DataError: wrong rate, missing channel, too short, a session of several subjects, or a trial that is not finite,
            flat, clipped or mains only.
    """
    source, signals = recordings.source, recordings.signals
    if not len(recordings):
        raise DataError(f"{source}: there is no trial in it")
    check_rate(recordings.rate, source)
    if signals.shape[1] != len(CHANNELS):
        raise DataError(f"{source}: {signals.shape[1]} channels, expected {len(CHANNELS)}")
    if signals.shape[2] < SHORTEST_S * recordings.rate:
        raise DataError(f"{source}: trials of {signals.shape[2] / recordings.rate:g} s, needed are {SHORTEST_S:g} s")
    pairs = sorted(set(zip(recordings.sessions.tolist(), recordings.subjects.tolist(), strict=True)))
    subject_of = dict(pairs)
    for session, subject in pairs:
        if subject_of[session] != subject:
            raise DataError(
                f"{source}: session {session!r} is one of {subject!r} and of {subject_of[session]!r}: name each "
                f"subject's sessions otherwise, such as {f'{subject} {session}'!r}"
            )
    for i, signal in enumerate(signals):
        fault = find_fault(signal, recordings.rate)
        if fault:
            where = f"{recordings.sessions[i]}, {recordings.labels[i]}, repetition {recordings.repetitions[i]}"
            raise DataError(f"{source}: trial {i} ({where}): {fault.message}. Leave it out.")


def find_fault(signal: Array, rate: float = RATE) -> Fault | None:
    """Return the first fault of a (C, T) signal [V], or None."""
    bad = ~np.isfinite(signal)
    if bad.any():
        return Fault("not-finite", f"{int(bad.sum())} samples are NaN or infinite")
    for number, channel in enumerate(signal, 1):
        if len(np.unique(channel)) < FLAT_LEVELS:
            return Fault("flat", f"channel {number} is flat (values {channel.min():g} to {channel.max():g} V)")
        share = _clipped_share(channel)
        if share > CLIPPED_SHARE:
            return Fault("clipped", f"channel {number} is clipped: {share:.0%} of its samples stick at an extreme")
    for hertz in MAINS_HZ:
        share = float(min(_mains_share(channel, rate, hertz) for channel in signal))
        if share > MAINS_SHARE:
            return Fault("mains", f"{share:.0%} of the power is {hertz:g} Hz mains: are the electrodes on?")
    return None


def _clipped_share(channel: Array) -> float:
    """Share of the samples in runs of at least three at the largest or smallest value."""
    total = 0
    for extreme in (channel.max(), channel.min()):
        at = np.concatenate([[False], channel == extreme, [False]])
        edges = np.flatnonzero(np.diff(at.astype(np.int8)))
        lengths = edges[1::2] - edges[::2]
        total += int(lengths[lengths >= 3].sum())
    return total / len(channel)


def _mains_share(channel: Array, rate: float, hertz: float) -> float:
    power = np.abs(np.fft.rfft((channel - channel.mean()) * np.hanning(len(channel)))) ** 2
    frequency = np.fft.rfftfreq(len(channel), 1 / rate)
    width = max(2.0, 2 * rate / len(channel))  # a short window's main lobe is wider
    near = np.abs(frequency - hertz * np.maximum(1, np.round(frequency / hertz))) <= width
    return float(power[near].sum() / max(power.sum(), 1e-30))
