"""The torch backend: every verb in torch's own operations, on arrays of any device, and the same bits as numpy's.

The only package besides the torch faces that imports torch; ``wcodec.backends.get_backend`` imports it when it is asked for.
"""

import torch

from wcodec.backends.base import Backend
from wcodec.backends.torch.backend import TorchBackend
from wcodec.backends.torch.batch import Batch
from wcodec.backends.torch.calls import Call, checked, verb
from wcodec.errors import BackendUnavailable


def load(device: str, near: Backend) -> TorchBackend:
    """Return the backend of a device, as torch names it; near: that of the cpu. Raises BackendUnavailable when torch lacks the device."""
    try:
        found = torch.empty(1, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackendUnavailable(f"torch has no device {device!r}: {str(error).splitlines()[0]}") from None
    return TorchBackend(found, near)


__all__ = ["Batch", "Call", "TorchBackend", "checked", "load", "verb"]
