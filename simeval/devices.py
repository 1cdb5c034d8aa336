"""Where torch computes."""

from simeval.errors import SettingError


def check_device(device: str) -> None:
    """Refuse a device that torch can't use.

    Raises:
        SettingError: it isn't there.
    """
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {device!r} can't be used ({reason}); cpu always can") from None
