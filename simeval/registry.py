"""Generators by name, from the entry-point group `simeval.generators`; the harness names none itself."""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from simeval.errors import SettingError, SimevalError, unknown_name
from simeval.generator import Generator

GROUP = "simeval.generators"


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP)}


def generator_names() -> list[str]:
    """Names of all registered generators, sorted."""
    return sorted(_entry_points())


def generator_origin(name: str) -> str:
    """Distribution and `module:attr` that a generator comes from."""
    entry = _entry_points()[name]
    return f"{entry.dist.name if entry.dist else '?'} ({entry.value})"


def load_factory(name: str) -> Any:
    """Import what is registered under a name.

    Raises:
        SettingError: no such generator, or its module can't be imported.
    """
    if name not in _entry_points():
        raise unknown_name("generator", name, _entry_points(), "See `simeval generators`.")
    try:
        return _entry_points()[name].load()
    except SimevalError:
        raise
    except Exception as error:
        raise SettingError(
            f"generator {name!r} from {generator_origin(name)} can't be imported: {type(error).__name__}: {error}"
        ) from error


def settings_of(name: str) -> dict[str, inspect.Parameter]:
    """Keyword parameters of a generator, by name; `data` is filled in by the harness."""
    return dict(inspect.signature(load_factory(name)).parameters)


def make_generator(name: str, settings: Mapping[str, str] | None = None, data: Path | None = None) -> Generator:
    """Build a generator from text settings, converted by the annotations of its parameters.

    Raises:
        SettingError: unknown generator or setting, a value of the wrong type, or a factory that gives no Generator.
    """
    from pydantic import TypeAdapter, ValidationError

    factory, parameters = load_factory(name), settings_of(name)
    hints = inspect.get_annotations(factory.__init__ if inspect.isclass(factory) else factory, eval_str=True)
    values: dict[str, Any] = {"data": data} if "data" in parameters else {}
    for key, text in (settings or {}).items():
        if key not in parameters:
            raise unknown_name(f"setting of {name!r}:", key, parameters)
        try:
            values[key] = TypeAdapter(hints.get(key, str)).validate_python(text)
        except ValidationError as error:
            raise SettingError(f"setting {key}={text!r} of {name!r}: {error.errors()[0]['msg']}") from None
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in values and parameter.kind not in variadic
    ]
    if missing:
        raise SettingError(f"generator {name!r} needs --set {missing[0]}=…")
    generator = factory(**values)
    if not isinstance(generator, Generator):
        raise SettingError(f"generator {name!r} from {generator_origin(name)} has no generate(request) method")
    return generator
