"""Where torch computes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from simeval.errors import SettingError


def check_device(device: str) -> None:
    """Refuse a device that torch can't use.

    Raises:
        SettingError: it is none of cpu, cuda and cuda:N, or isn't there.
    """
    import torch

    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise SettingError(
            f"device {device!r} can't be used (cuda and cuda:N can where they are there); cpu always can"
        )
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {device!r} can't be used ({reason}); cpu always can") from None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: the same bits however many cores there are; small tensors gain nothing from more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
