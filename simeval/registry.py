"""Generators, refiners, policies and predictors by name, from entry-point groups; the harness names none itself."""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simeval.errors import SettingError, SimevalError, plugin_fault, unknown_name
from simeval.generator import Generator, Refiner

if TYPE_CHECKING:
    from simeval.trials.policies import Policy, Predictor

GROUP, REFINERS, TRAINERS = "simeval.generators", "simeval.refiners", "simeval.trainers"
POLICIES, PREDICTORS = "simeval.policies", "simeval.predictors"
_KINDS = {
    GROUP: "generator", REFINERS: "refiner", TRAINERS: "trainer", POLICIES: "policy", PREDICTORS: "predictor",
}  # fmt: skip
_HINTS = {POLICIES: "oracle, random-type and type-blind work too.", PREDICTORS: "", TRAINERS: ""}


@cache
def _entry_points(group: str = GROUP) -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=group)}


def generator_names() -> list[str]:
    """Names of all registered generators, sorted."""
    return sorted(_entry_points())


def refiner_names() -> list[str]:
    """Names of all registered refiners, sorted."""
    return sorted(_entry_points(REFINERS))


def generator_origin(name: str, group: str = GROUP) -> str:
    """Distribution and `module:attr` that a generator (or what else is in `group`) comes from."""
    entry = _entry_points(group)[name]
    return f"{entry.dist.name if entry.dist else '?'} ({entry.value})"


def load_factory(name: str, group: str = GROUP) -> Any:
    """Import what is registered under a name.

    Raises:
        SettingError: there is none, or its module can't be imported.
    """
    kind = _KINDS[group]
    if name not in _entry_points(group):
        raise unknown_name(kind, name, _entry_points(group), _HINTS.get(group, "See `simeval generators`."))
    try:
        return _entry_points(group)[name].load()
    except SimevalError:
        raise
    except BaseException as error:
        origin = generator_origin(name, group)
        raise SettingError(f"{kind} {name!r} from {origin} can't be imported: {plugin_fault(error)}") from error


def settings_of(name: str, group: str = GROUP) -> dict[str, inspect.Parameter]:
    """Keyword parameters of a generator, by name; `data` is filled in by the harness."""
    factory = load_factory(name, group)
    try:
        return dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        origin = generator_origin(name, group)
        raise SettingError(f"{_KINDS[group]} {name!r} from {origin} is no class or function: {factory!r:.60}") from None


def make_generator(name: str, settings: Mapping[str, str] | None = None, data: Path | None = None) -> Generator:
    """Build a generator from text settings, converted by the annotations of its parameters.

    Raises:
        SettingError: unknown generator or setting, a value of the wrong type, or a factory that gives no Generator.
    """
    return _checked(_make(name, settings or {}, data, GROUP), Generator, name, GROUP, "generate(request)")


def make_refiner(text: str, data: Path | None = None) -> Refiner:
    """Build a refiner from its name and settings: `energy` or `energy,steps=50`. Errors as in `make_generator`."""
    name, settings = named_settings(text, "refiner", "energy,steps=50")
    return _checked(_make(name, settings, data, REFINERS), Refiner, name, REFINERS, "refine(…)")


def make_policy(text: str) -> "Policy":
    """Build a policy from its name and settings: `argmax` or `reject,threshold=0.8`. Errors as in `make_generator`."""
    from simeval.trials.policies import Policy

    name, settings = named_settings(text, "policy", "reject,threshold=0.8")
    return _checked(_make(name, settings, None, POLICIES), Policy, name, POLICIES, "decide(…)")


def load_predictor(name: str) -> "Predictor":
    """Load what predicts whether grasps hold. Errors as in `make_generator`."""
    from simeval.trials.policies import Predictor

    return _checked(_make(name, {}, None, PREDICTORS), Predictor, name, PREDICTORS, "scores(…)")


def named_settings(text: str, kind: str, example: str) -> tuple[str, dict[str, str]]:
    """Read `name` or `name,key=value,…`.

    Raises:
        SettingError: a part isn't of that form.
    """
    name, *items = [part.strip() for part in text.split(",")]
    for item in items:
        if "=" not in item:
            raise SettingError(f"{kind} {text!r}: can't read {item!r}; write for example {example}")
    settings: dict[str, str] = {}
    for key, value in (item.split("=", 1) for item in items):
        if key in settings:
            raise SettingError(f"{kind} {text!r}: {key} is given twice")
        settings[key] = value
    return name, settings


def _checked(made: Any, protocol: type, name: str, group: str, method: str) -> Any:
    """Return what was made.

    Raises:
        SettingError: it lacks the method that its protocol asks for.
    """
    if not isinstance(made, protocol):
        raise SettingError(f"{_KINDS[group]} {name!r} from {generator_origin(name, group)} has no {method} method")
    return made


def _make(name: str, settings: Mapping[str, str], data: Path | None, group: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    factory, parameters = load_factory(name, group), settings_of(name, group)
    try:
        hints = inspect.get_annotations(factory.__init__ if inspect.isclass(factory) else factory, eval_str=True)
    except Exception as error:  # whatever stands there in quotes
        raise SettingError(
            f"{_KINDS[group]} {name!r} from {generator_origin(name, group)}: an annotation of its settings means "
            f"nothing when it is made ({error}); import what it names"
        ) from error
    values: dict[str, Any] = {"data": data} if "data" in parameters else {}
    for key, text in settings.items():
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
        raise SettingError(f"{_KINDS[group]} {name!r} needs --set {missing[0]}=…")
    try:
        return factory(**values)
    except SimevalError:
        raise
    except BaseException as error:
        raise SettingError(f"{_KINDS[group]} {name!r} can't be built: {plugin_fault(error)}") from error
