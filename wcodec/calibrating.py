"""Statistics of a transformers model's folder (``pip install 'wcodec[transformers]'``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wcodec.calibration.gather import LIMIT, calibrate
from wcodec.calibration.statistics import Statistics
from wcodec.errors import BackendUnavailable, EncodeError
from wcodec.perplexity import CONTEXT, tokens


def calibrate_folder(
    folder: str | Path,
    target: str | Path,
    *,
    text: str | Path | None = None,
    tensors: str | Path | None = None,
    context: int = CONTEXT,
    gradients: bool = False,
    limit: int = LIMIT,
    announce: Callable[[str], None] | None = None,
    force: bool = False,
) -> Statistics:
    """Gather statistics of the model that a folder's config.json names, over a text or over tensors.

    text: UTF-8, or token ids in an ``.npz``; read in pieces of ``context`` tokens. tensors: an ``.npz`` of arrays, named as what the model
    is called with, whose first axis counts samples. The rest as in ``calibrate``. Raises BackendUnavailable without transformers.
    """
    try:
        import torch
        import transformers
    except ImportError:
        raise BackendUnavailable("calibration needs transformers: pip install 'wcodec[transformers]'") from None
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise EncodeError("not a model folder: it has no config.json", at=str(folder))
    if (text is None) == (tensors is None):
        raise EncodeError("calibration takes a text, or tensors")
    config: Any = transformers.AutoConfig.from_pretrained(folder)
    kind: Any = getattr(transformers, (config.architectures or ["AutoModel"])[0], transformers.AutoModel)
    model = kind.from_pretrained(folder, dtype=torch.float32)
    batches = _samples(Path(tensors)) if tensors is not None else _pieces(folder, Path(text or ""), config, context)
    return calibrate(model, batches, target, gradients=gradients, limit=limit, announce=announce, force=force)


def _pieces(folder: Path, text: Path, config: Any, context: int) -> Iterator[Any]:
    import torch

    found = tokens(folder, text, config.get_text_config().vocab_size)
    for at in range(0, found.size, context):
        yield {"input_ids": torch.from_numpy(found[None, at : at + context])}


def _samples(path: Path) -> Iterator[Any]:
    import torch

    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if len({len(array) for array in found.values()}) != 1:
        raise EncodeError("arrays of as many samples each are expected", at=str(path))
    for at in range(len(next(iter(found.values())))):
        yield {name: torch.from_numpy(array[at : at + 1]) for name, array in found.items()}


__all__ = ["calibrate_folder"]
