"""What trained models have in common: configurations as JSON, settings by dotted keys, weights as safetensors."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from simeval.errors import DataError

T = TypeVar("T")


class Weights(NamedTuple):
    """A file of weights."""

    tensors: dict[str, NDArray[np.floating]]
    metadata: dict[str, str]


def read_config(path: Path, kind: TypeAdapter[T]) -> T:
    """Read and check a configuration file.

    Raises:
        DataError: it isn't there, no JSON, or not a configuration of this kind.
    """
    try:
        return kind.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None


def change_values(values: dict[str, Any], changes: Mapping[str, str], unknown: Callable[[str], Exception]) -> None:
    """Replace values in place: keys like `augment.noise`, values as JSON or plain text; `unknown` makes the error."""
    for key, text in changes.items():
        *path, last = key.split(".")
        here: Any = values
        for part in path:
            here = here.get(part) if isinstance(here, dict) else None
        if not isinstance(here, dict) or last not in here:
            raise unknown(key)
        try:
            here[last] = json.loads(text)
        except ValueError:
            here[last] = text


def first_problem(error: ValidationError) -> str:
    """Where the first value that doesn't fit is, and why not."""
    first = error.errors()[0]
    told = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc']))}: {told}" if first["loc"] else told


def read_weights(path: Path, made_by: str) -> Weights:
    """Read a safetensors file; `made_by` is the command that writes one.

    Raises:
        DataError: it isn't there, is damaged, or holds what isn't finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            found = Weights({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `{made_by}` makes one") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as weights: {error}") from None
    if not all(np.isfinite(value).all() for value in found.tensors.values()):
        raise DataError(f"{path} holds weights that are not finite")
    return found
