"""Suites: frozen, versioned lists of (object, scale, type, count); every generator meets the same conditions."""

import hashlib
import json
import tomllib
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simeval.configuration import first_problem
from simeval.errors import SettingError, unknown_name
from simeval.taxonomy import GRASP_TYPES

MOST_GRASPS = 1_000_000
"""Of a request."""


class Request(BaseModel, frozen=True, extra="forbid"):
    """So many grasps of one object at one scale, of one type or of any ("")."""

    object: str
    scale: float = Field(gt=0, allow_inf_nan=False)
    type: Literal["", *GRASP_TYPES] = ""  # type: ignore[valid-type]
    count: int = Field(gt=0, le=MOST_GRASPS)

    @property
    def grasp_type(self) -> str | None:
        """The type, or None where any will do."""
        return self.type or None


class Suite(BaseModel):
    """A list of requests and what goes with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int = Field(ge=0)
    description: str
    data_kind: Literal["real", "embedded"]
    protocols: list[str] = ["lift", "six-direction"]
    references: list[str] = []
    """Generators that every table of this suite shows: the ceiling and the floors."""
    bank: str = ""
    """Grasps known to be good on these objects, for generators that replay some (`--set bank=` overrides)."""
    training: str = ""
    """Grasps of other objects, for generators that transfer or learn from some; none: those of `bank`."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    requests: list[Request]

    @property
    def digest(self) -> str:
        """8 hex digits that name the suite's contents."""
        text = json.dumps([r.model_dump() for r in self.requests] + [self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def count(self) -> int:
        """Grasps requested."""
        return sum(r.count for r in self.requests)

    def subset(self, objects: int | None = None, grasps: int | None = None, types: Collection[str] = ()) -> "Suite":
        """Return the first `objects` objects, at most `grasps` a request, only some types; no types: all.

        Raises:
            SettingError: it has none of a type.
        """
        for kind in types:
            if all(r.type != kind for r in self.requests):
                there = ", ".join(sorted({r.type or "(any)" for r in self.requests}))
                raise SettingError(f"suite {self.name!r} has no request of type {kind!r}; it has: {there}")
        kept = [r for r in self.requests if not types or r.type in types]
        codes = list(dict.fromkeys(r.object for r in kept))[:objects]
        kept = [
            r if grasps is None else r.model_copy(update={"count": min(grasps, r.count)})
            for r in kept
            if r.object in codes
        ]
        return self.model_copy(update={"requests": kept})


def suite_names() -> list[str]:
    """Names of the suites that come with simeval."""
    folder = files("simeval.benchmarks") / "suites"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """Load a suite by its name, or from the path of a TOML file.

    Raises:
        SettingError: no such suite or file, or its contents are wrong.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise SettingError(f"no suite file {name}; suites that come with simeval: {', '.join(suite_names())}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"suite file {name} can't be read: {error}") from None
    elif name in suite_names():
        text = (files("simeval.benchmarks") / "suites" / f"{name}.toml").read_text()
    else:
        raise unknown_name("suite", name, suite_names(), "A path to a .toml file works too.")
    try:
        found = Suite.model_validate(_expand(tomllib.loads(text)))
        if not found.requests:
            raise SettingError(f"suite {name!r} has no request")
        return found
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"suite {name!r} is not TOML: {error}") from None
    except ValidationError as error:
        raise SettingError(f"suite {name!r}: {first_problem(error)}") from None


def _expand(raw: dict) -> dict:
    """Requests may be written in one line each: [object, scale, type, count]."""
    keys = ("object", "scale", "type", "count")
    requests = raw.get("requests", [])
    if isinstance(requests, list):
        for r in requests:
            if isinstance(r, list) and len(r) != len(keys):
                raise SettingError(f"request {r}: expected [{', '.join(keys)}]")
        raw["requests"] = [dict(zip(keys, r, strict=True)) if isinstance(r, list) else r for r in requests]
    return raw
