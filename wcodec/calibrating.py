"""Statistics of a transformers model's folder (``pip install 'wcodec[transformers]'``)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.api.files import Checkpoint
from wcodec.calibration.gather import LIMIT, calibrate
from wcodec.calibration.statistics import Statistics
from wcodec.calibration.walk import Walk
from wcodec.calibration.weights import hollow
from wcodec.errors import BackendUnavailable, EncodeError
from wcodec.evaluation import load_tensor
from wcodec.perplexity import CONTEXT, tokens


def calibrate_folder(
    folder: str | Path,
    target: str | Path,
    *,
    text: str | Path | None = None,
    tensors: str | Path | None = None,
    context: int = CONTEXT,
    gradients: bool = True,
    limit: int = LIMIT,
    announce: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> Statistics:
    """Gather statistics of the model that a folder's config.json names, over a text or over tensors.

    text: UTF-8, or token ids in an ``.npz``; read in pieces of ``context`` tokens, or of as many as the model has positions for.
    tensors: an ``.npz`` of arrays, named as what the model is called with, whose first axis counts samples. progress: called with (samples
    done, samples in all). The rest as in ``calibrate``. Raises BackendUnavailable without transformers.
    """
    if Path(target).exists() and not force:  # before a model is loaded
        raise FileExistsError(errno.EEXIST, "exists already", str(target))
    import torch

    folder = Path(folder)
    config, kind = _kind(folder)
    batches = _batches(folder, config, text, tensors, context)
    model = kind.from_pretrained(folder, dtype=torch.float32)
    counted = batches if progress is None else _counted(batches, progress)
    return calibrate(model, counted, target, gradients=gradients, limit=limit, announce=announce, force=force)


def walk_folder(
    source: str | Path,
    *,
    text: str | Path | None = None,
    tensors: str | Path | None = None,
    context: int = CONTEXT,
    sequential: bool = True,
    gradients: bool = True,
    finetune: bool = False,
    scratch: str | Path | None = None,
) -> Walk:
    """Prepare a walk along a transformers model, which ``wcodec.encode`` takes as ``calibration`` in place of statistics.

    source: what is to be encoded: the model's folder, or a file in it. scratch: a folder for what goes from block to block, by default
    the system's for temporary files. sequential, gradients, finetune: as in ``Walk``. The rest as in ``calibrate_folder``.
    Raises BackendUnavailable without transformers, EncodeError where blocks are not called one after the other, FormatError, OSError.
    """
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    config, kind = _kind(folder)
    batches = _batches(folder, config, text, tensors, context)
    config.use_cache = False
    with hollow():
        model = kind._from_config(config)
    model.tie_weights()
    with ExitStack() as stack:
        checkpoint = stack.enter_context(Checkpoint(source))

        _compute(model, checkpoint.names)

        def read(name: str) -> npt.NDArray[np.float32]:
            return np.array(load_tensor(checkpoint, name), np.float32)

        options = {"sequential": sequential, "gradients": gradients, "finetune": finetune}
        walk = Walk(model, batches, read, set(checkpoint.names), scratch=scratch, **options)
        walk.stack.push(stack.pop_all())
        return walk


def _compute(model: Any, known: Collection[str]) -> None:
    """Let a hollow model make the parameters that it never saves, such as positions that are sines."""
    never = getattr(model, "_keys_to_ignore_on_save", None) or ()
    for name in [name for name, _ in model.named_parameters() if name in never and name not in known]:
        model._init_weights(model.get_submodule(name.rpartition(".")[0]).to_empty(device="cpu"))


def _kind(folder: Path) -> tuple[Any, Any]:
    """Return a model's configuration and class. Raises BackendUnavailable, EncodeError."""
    try:
        import transformers
    except ImportError:
        raise BackendUnavailable("calibration needs transformers: pip install 'wcodec[transformers]'") from None
    if not (folder / "config.json").is_file():
        raise EncodeError("not a model folder: it has no config.json", at=str(folder))
    config: Any = transformers.AutoConfig.from_pretrained(folder)
    name = (config.architectures or [""])[0]
    kind: Any = getattr(transformers, name, None)
    if kind is None:
        raise EncodeError(f"transformers has no {name or 'architecture'} that config.json names", at=str(folder))
    return config, kind


def _batches(folder: Path, config: Any, text: str | Path | None, tensors: str | Path | None, context: int) -> list[Any]:
    """Return what the model is called with. Raises EncodeError."""
    if (text is None) == (tensors is None):
        raise EncodeError("calibration takes a text, or tensors")
    found = _samples(Path(tensors)) if tensors is not None else _pieces(folder, Path(text or ""), config.get_text_config(), context)
    if not found:
        raise EncodeError("there is nothing to calibrate with", at=str(text or tensors))
    return found


def _pieces(folder: Path, text: Path, config: Any, context: int) -> list[Any]:
    import torch

    found = tokens(folder, text, config.vocab_size)
    context = min(context, getattr(config, "max_position_embeddings", None) or context)
    return [{"input_ids": torch.from_numpy(found[None, at : at + context])} for at in range(0, found.size, context)]


def _samples(path: Path) -> list[Any]:
    import torch

    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if len({array.shape[:1] for array in found.values()}) != 1 or not next(iter(found.values())).shape:
        raise EncodeError("arrays of as many samples each are expected", at=str(path))
    count = len(next(iter(found.values())))
    return [{name: torch.from_numpy(array[at : at + 1]) for name, array in found.items()} for at in range(count)]


def _counted(batches: list[Any], progress: Callable[[int, int], None]) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        progress(number, len(batches))
        yield batch


__all__ = ["calibrate_folder", "walk_folder"]
