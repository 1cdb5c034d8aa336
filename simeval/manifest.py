"""The manifest: what a run was asked to do, under which versions; and the folder that it names."""

import hashlib
import inspect
import json
import platform
import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from simeval.hand import urdf_path
from simeval.noise import PoseNoise
from simeval.physics.settings import Physics
from simeval.registry import generator_origin, settings_of
from simeval.store import VOLATILE
from simeval.suites import Suite

PACKAGES = ("simeval", "numpy", "scipy", "torch", "pybullet")
"""Distributions whose version can change a result."""
_NOT_EXECUTOR = ("render.py", "pool.py")
RUNS = Path("runs")
"""Where runs go that don't say where."""


def make_manifest(
    generator: str,
    settings: Mapping[str, str],
    suite: Suite,
    protocols: Sequence[str],
    physics: Physics,
    pose_noise: PoseNoise | None,
    objects: str,
    refine: str = "",
) -> dict[str, Any]:
    """Return the manifest of a run; `objects` is a digest of the geometry of all its objects."""
    return {
        "generator": generator,
        "origin": generator_origin(generator),
        "variant": " ".join([f"+refine {refine}"] * bool(refine) + [f"+noise {pose_noise}"] * bool(pose_noise)),
        "settings": dict(settings),
        "suite": suite.name,
        "suite_version": suite.version,
        "suite_digest": suite.digest,
        "data_kind": suite.data_kind,
        "objects_digest": objects,
        "protocols": list(protocols),
        "physics": physics.as_dict(),
        "physics_digest": physics.digest,
        "executor_digest": executor_digest(),
        "seed": suite.seed,
        "pose_noise": None if pose_noise is None else {
            "translation_m": pose_noise.translation_m, "rotation_rad": pose_noise.rotation_rad,
        },
        "versions": versions(generator),
        VOLATILE: {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": socket.gethostname(), "argv": sys.argv,
            "platform": platform.platform(),
        },
    }  # fmt: skip


def versions(generator: str | None = None) -> dict[str, str]:
    """Versions of Python, of what the result rests on, and of the distribution a generator comes from."""
    found = {"python": platform.python_version()}
    names = [*PACKAGES, *([generator_origin(generator).split(" ")[0]] if generator else [])]
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def executor_digest() -> str:
    """8 hex digits that name the code, the grasp types and the hand model that turn a trial into a record.

    A version number alone would let a run resume, or a stored reference stand, across a change of the physics.
    """
    package = files("simeval")
    sources = [package / "hand.py", package / "taxonomy.py", Path(urdf_path())]
    for folder in ("physics", "metrics"):
        sources += [f for f in (package / folder).iterdir() if f.name.endswith(".py") and f.name not in _NOT_EXECUTOR]
    content = hashlib.sha256()
    for source in sorted(sources, key=lambda f: f.name):
        content.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return content.hexdigest()[:8]


def effective_settings(generator: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Return a generator's settings, defaults included, as text; `data` is not one of them."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    defaults = {
        name: str(p.default)
        for name, p in settings_of(generator).items()
        if name != "data" and p.kind in plain and p.default is not p.empty and p.default is not None
    }
    return defaults | dict(settings)


def run_folder(manifest: Mapping[str, Any], out: Path | None = None) -> Path:
    """Return a run's folder: the same manifest, its volatile part apart, gives the same one."""
    lasting = {key: value for key, value in manifest.items() if key != VOLATILE}
    digest = hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:8]
    base = RUNS / slug(manifest["suite"]) if out is None else out
    return base / "-".join(filter(None, [slug(manifest["generator"]), slug(manifest["variant"]), digest]))


def slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
