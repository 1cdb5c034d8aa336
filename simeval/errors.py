"""The errors a user can meet: one root, messages that say what to do next."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit codes."""


class SimevalError(Exception):
    """Root of every error that is the input's fault, not simeval's. The CLI prints it and exits with 2."""


class DataError(SimevalError):
    """A file, mesh or data set that can't be used: missing, truncated, malicious or of the wrong shape."""


class GraspError(SimevalError):
    """An array that is no grasp: wrong shape or dtype."""


class SettingError(SimevalError):
    """A setting, option or suite that can't be used."""


@contextmanager
def clear_exit(tracebacks: bool = False) -> Iterator[None]:
    """End the process with a message and an exit code where the input is at fault or the user interrupts.

    `tracebacks`: for those who look for a fault in simeval itself.
    """
    try:
        yield
    except SimevalError as error:
        if tracebacks:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except OSError as error:  # a disk that is full, a folder that can't be written to, ...
        if tracebacks:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def plugin_fault(error: BaseException) -> str:
    """Return what a plug-in raised, `sys.exit()` too, in one line: its kind and message, if that can be had.

    For what caught BaseException around a plug-in's code. The user's interrupt, which isn't a fault, is raised again.
    """
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        raise error
    try:
        message = str(error)
    except Exception:
        message = "(it has no message)"
    return " ".join(f"{type(error).__name__}: {message}".split())


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
