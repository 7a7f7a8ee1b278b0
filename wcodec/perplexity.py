"""Language models before and after encoding, by transformers (``pip install 'wcodec[transformers]'``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.errors import BackendUnavailable, EncodeError
from wcodec.evaluation import Answers, Quality, compare, load_checkpoint

CONTEXT = 512
"""Tokens that the model sees at once."""


def text_quality(original: str | Path, encoded: str | Path, text: str | Path, *, context: int = CONTEXT) -> Quality:
    """Compare a causal language model of transformers with what encoding made of it, token by token of a text.

    original: its folder, with configuration and safetensors. encoded: its weights. text: UTF-8, or an ``.npz`` with token ids as its only
    array; a model without a tokenizer takes bytes as tokens. context: tokens of the pieces that the text is cut into, read each by itself.
    All is computed in float32 on the cpu. Raises BackendUnavailable without transformers, EncodeError for a text that is too short or
    weights that do not fit, FormatError, OSError.
    """
    try:
        from transformers import AutoConfig
    except ImportError:
        raise BackendUnavailable("quality of language models needs transformers: pip install 'wcodec[transformers]'") from None
    if context < 2:
        raise EncodeError(f"a context of {context} tokens leaves none to predict")
    if not (Path(original) / "config.json").is_file():
        raise EncodeError("not a model folder: it has no config.json", at=str(original))
    config = AutoConfig.from_pretrained(original)
    ids = tokens(Path(original), Path(text), config.get_text_config().vocab_size)
    pieces = [ids[at : at + context] for at in range(0, ids.size, context)]
    pieces = [piece for piece in pieces if piece.size > 1]
    if not pieces:
        raise EncodeError(f"the text has {ids.size} tokens; the first one predicts nothing", at=str(text))
    before, after = (_model(config, path) for path in (original, encoded))
    return compare(_answers(before, pieces), _answers(after, pieces))


def tokens(folder: Path, text: Path, vocabulary: int) -> npt.NDArray[np.int64]:
    """Read token ids. Raises EncodeError for ids that the model does not know."""
    if text.suffix == ".npz":
        with np.load(text) as arrays:
            if len(arrays.files) != 1:
                raise EncodeError(f"{len(arrays.files)} arrays, expected token ids alone", at=str(text))
            found = np.asarray(arrays[arrays.files[0]]).reshape(-1).astype(np.int64)
    elif any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        from transformers import AutoTokenizer

        found = np.array(AutoTokenizer.from_pretrained(folder)(text.read_text(encoding="utf-8"))["input_ids"], np.int64)
    else:
        found = np.frombuffer(text.read_bytes(), np.uint8).astype(np.int64)
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < vocabulary:
        raise EncodeError(f"token ids are {found.min()} to {found.max()}, the model knows 0 to {vocabulary - 1}", at=str(text))
    return found


def _model(config: Any, weights: str | Path) -> Any:
    """Make the model and load weights into it. Raises EncodeError where they do not fit."""
    import torch
    from transformers import AutoModelForCausalLM

    state = {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in load_checkpoint(weights).items()}
    make: Any = AutoModelForCausalLM.from_config
    model = make(config, dtype=torch.float32)
    known = model.state_dict()
    unexpected = sorted(state.keys() - known.keys())
    missing, _ = model.load_state_dict({name: its for name, its in state.items() if name in known}, strict=False)
    model.tie_weights()
    shared = {its.data_ptr() for name, its in known.items() if name in state}
    missing = [name for name in missing if known[name].data_ptr() not in shared]
    if missing or unexpected:
        raise EncodeError(
            f"the weights do not fit the model: missing {missing or 'none'}, unexpected {unexpected or 'none'}", at=str(weights)
        )
    return model.eval()


def _answers(model: Any, pieces: list[npt.NDArray[np.int64]]) -> Iterator[Answers]:
    import torch

    for piece in pieces:
        with torch.inference_mode():
            logits = model(torch.from_numpy(piece)[None]).logits[0, :-1]
        yield logits.float().numpy(), piece[1:]


__all__ = ["text_quality", "tokens"]
