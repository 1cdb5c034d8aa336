"""Which object, which intent, which recording: everything that a trial draws, by seed and number alone.

What is drawn for a number doesn't depend on policy or generator, nor, but for the recording, on the protocol: rows of a
table are compared trial by trial.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simeval.emg.recordings import Recordings
from simeval.errors import SettingError, unknown_name
from simeval.suites import Suite, load_suite, suite_names
from simeval.taxonomy import GRASP_TYPES
from simeval.trials.signals import Signals

INTENTS = ("suite", "uniform")
"""Intents as the suite has its requests, types that are feasible; or every object with every type."""
MOST_REPEATS = 10
"""How often a signal can be repeated."""
_SCENES, _SIGNALS, _RANDOM = 1, 2, 3  # so that the draws of one seed have nothing to do with one another


@dataclass(frozen=True, slots=True)
class Scene:
    """An object on its stand, and the grasp that somebody means to take it with."""

    number: int
    object_code: str
    scale: float
    intent: str  # a name of LABELS


@dataclass(frozen=True, slots=True)
class Choices:
    """The pairs of object and intent that scenes are drawn from, and how much was left out."""

    pairs: tuple[tuple[str, float, str], ...]  # object code, scale, type
    excluded: int  # pairs of an object and a type that are no request of the suite
    suite: str  # whose objects they are


def choices(suite: Suite, intents: str) -> Choices:
    """Return what can be drawn.

    `suite`: the suite's own requests that name a type. `uniform`: every object with every type, of the suite's
    `-uniform` sister where there is one.

    Raises:
        SettingError: unknown way, or the suite has no types to draw.
    """
    if intents not in INTENTS:
        raise unknown_name("way to draw intents", intents, INTENTS)
    if intents == "uniform":
        sister = uniform_sister(suite)
        objects = dict.fromkeys((r.object, r.scale) for r in sister.requests)
        return Choices(tuple((*o, kind) for o in objects for kind in GRASP_TYPES), 0, sister.name)
    typed = tuple(dict.fromkeys((r.object, r.scale, r.type) for r in suite.requests if r.type))
    if not typed:
        raise SettingError(
            f"suite {suite.name!r} has no request that names a type, so no intent can be drawn from it. "
            "--intents uniform draws every object with every type."
        )
    objects = dict.fromkeys((r.object, r.scale) for r in suite.requests)
    return Choices(typed, len(objects) * len(GRASP_TYPES) - len(typed), suite.name)


def uniform_sister(suite: Suite) -> Suite:
    """Return the suite's `-uniform` sister, or itself where there is none or only a part of the suite is meant."""
    name = f"{suite.name}-uniform"
    whole = suite.name in suite_names() and load_suite(suite.name).digest == suite.digest
    return load_suite(name) if whole and name in suite_names() else suite


def draw_scenes(found: Choices, count: int, seed: int) -> list[Scene]:
    """Draw `count` scenes; every pair comes equally often, give or take one, in an order that the seed decides."""
    rng = np.random.default_rng([_SCENES, seed])
    rounds = -(-count // len(found.pairs))
    order = np.concatenate([rng.permutation(len(found.pairs)) for _ in range(rounds)])[:count]
    return [Scene(number, *found.pairs[i]) for number, i in enumerate(order.tolist())]


def draw_signals(signals: Signals, recordings: Recordings, scene: Scene, seed: int) -> list[int]:
    """Draw positions in `signals`: a held-out recording of the intent, then others of its session, as repetitions."""
    rng = np.random.default_rng([_SIGNALS, seed, zlib.crc32(signals.protocol.encode()), scene.number])
    meant = np.flatnonzero(recordings.labels[signals.rows] == scene.intent)
    first = int(rng.choice(meant))
    session = recordings.sessions[signals.rows[meant]] == recordings.sessions[signals.rows[first]]
    others = rng.permutation(meant[session & (meant != first)])[:MOST_REPEATS]
    return [first, *others.tolist()]


def draw_type(kinds: Sequence[str], scene: Scene, seed: int) -> str:
    """Draw a type that knows nothing of the intent."""
    return str(np.random.default_rng([_RANDOM, seed, scene.number]).choice(kinds))
