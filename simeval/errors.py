"""The errors a user can meet: one root, messages that say what to do next."""

from collections.abc import Iterable
from difflib import get_close_matches


class SimevalError(Exception):
    """Root of every error that is the input's fault, not simeval's. The CLI prints it and exits with 2."""


class DataError(SimevalError):
    """A file, mesh or data set that can't be used: missing, truncated, malicious or of the wrong shape."""


class GraspError(SimevalError):
    """An array that is no grasp: wrong shape or dtype."""


class SettingError(SimevalError):
    """A setting, option or suite that can't be used."""


def unknown_name(kind: str, name: str, available: Iterable[str], hint: str = "") -> SettingError:
    """Build the error for a name that isn't there: what was asked, what is near, what is available."""
    names = sorted(available)
    near = get_close_matches(name, names, n=1)
    shown = ", ".join(names[:20]) + (f" … ({len(names)} in all)" if len(names) > 20 else "")
    message = f"unknown {kind} {name!r}."
    if near:
        message += f" Did you mean {near[0]!r}?"
    message += f" Available: {shown or 'none'}."
    return SettingError(f"{message} {hint}".rstrip())
