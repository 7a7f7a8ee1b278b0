"""all-MiniLM-L6-v2 in numpy: how near the embeddings of an encoded file are to those of the original.

python tools/minilm.py ORIGINAL.safetensors ENCODED.wcodec vocab.txt
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from math import erf, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
HEADS = 12
PAIRS = (
    ("A man is playing a guitar.", "Someone plays an instrument."),
    ("The committee postponed its decision until autumn.", "No vote was held; it will come later in the year."),
    ("How do I reset my password?", "I forgot the code for my account."),
    ("The soup needs a little more salt.", "Interest rates rose for the third time."),
)
"""Sentences that mean about the same, and two that do not."""


def tokenise(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """WordPiece of BERT, uncased: words and punctuation, then the longest known pieces."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    found = [vocabulary["[CLS]"]]
    for word in re.findall(r"\w+|[^\w\s]", plain.replace("_", " _ ")):
        pieces, at = [], 0
        while at < len(word):
            end = next((e for e in range(len(word), at, -1) if ("##" if at else "") + word[at:e] in vocabulary), at)
            pieces.append(vocabulary[("##" if at else "") + word[at:end]] if end > at else None)
            at = end if end > at else len(word)
        found += [vocabulary["[UNK]"]] if None in pieces else pieces
    return [*found, vocabulary["[SEP]"]]


def gelu(x: F32) -> F32:
    return (x * 0.5 * (1 + np.array([erf(value / sqrt(2)) for value in x.reshape(-1)]).reshape(x.shape))).astype(np.float32)


def embed(w: Mapping[str, F32], tokens: Sequence[int]) -> F32:
    """BERT's forward pass and the mean over tokens, normalised."""

    def norm(x: F32, name: str) -> F32:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-12)
        return centred / scale * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def linear(x: F32, name: str) -> F32:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    e, count = "embeddings", len(tokens)
    x = w[f"{e}.word_embeddings.weight"][list(tokens)] + w[f"{e}.position_embeddings.weight"][:count]
    x = norm(x + w[f"{e}.token_type_embeddings.weight"][0], e)
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (linear(x, f"{layer}.attention.self.{n}").reshape(count, HEADS, -1).swapaxes(0, 1) for n in ("query", "key", "value"))
        scores = q @ k.swapaxes(1, 2) / np.float32(sqrt(q.shape[-1]))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(x.shape)
        x = norm(linear(mixed, f"{layer}.attention.output.dense") + x, f"{layer}.attention.output")
        x = norm(linear(gelu(linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense") + x, f"{layer}.output")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main(original: str, encoded: str, words: str) -> None:
    from safetensors.numpy import load_file

    import wcodec.numpy

    vocabulary = {word: i for i, word in enumerate(Path(words).read_text(encoding="utf-8").split("\n"))}
    tokens = [[tokenise(text, vocabulary) for text in pair] for pair in PAIRS]
    before, after = (
        np.array([[embed(w, its) for its in pair] for pair in tokens]) for w in (load_file(original), wcodec.numpy.load_file(encoded))
    )
    print("cosine of two sentences: before, after")
    for pair, one, other in zip(PAIRS, before, after, strict=True):
        print(f"  {one[0] @ one[1]:6.3f} {other[0] @ other[1]:6.3f}   {pair[0]} / {pair[1]}")
    print(f"cosine of an embedding after to the same one before: {np.sum(before * after, -1).mean():.4f} in the mean")


if __name__ == "__main__":
    main(*sys.argv[1:])
