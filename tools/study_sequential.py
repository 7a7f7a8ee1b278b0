"""Whether a walk should hand on what encoded blocks make: all-MiniLM-L6-v2, mean 1 − cosine, as in study_calibration.py.

python tools/study_sequential.py        # writes tools/results/sequential.md
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from study_calibration import Study
from transformers import BertModel

from wcodec.api.files import Checkpoint
from wcodec.calibration.walk import Walk
from wcodec.calibration.weights import hollow
from wcodec.evaluation import load_tensor

RESULTS = Path(__file__).parent / "results" / "sequential.md"


def walk(study: Study, sequential: bool = True, gradients: bool = True, finetune: bool = False) -> Walk:
    """A walk along the model, by the study's texts."""
    with hollow():
        model: Any = BertModel(study.model.config, add_pooling_layer=False)
    with Checkpoint(study.source) as checkpoint:
        weights = {name: load_tensor(checkpoint, name) for name in checkpoint.names}
    options = {"sequential": sequential, "gradients": gradients, "finetune": finetune}
    return Walk(model, study.calibration, weights.__getitem__, weights, scratch=study.folder, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bits", type=float, nargs="+", default=[3.0, 2.0, 4.0])
    parser.add_argument("--effort", default="fast")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        lines = [
            "# Walks and MiniLM-L6", "",
            f"`python tools/study_sequential.py`: mean 1 − cosine of embeddings of {len(study.test)} texts to the float model's, effort",
            f"{options.effort}; all bytes of files of the 36 matrices count.", "",
            "| bits asked | file, bits | calibration | 1 − cosine | seconds |", "|---|---|---|---|---|",
        ]  # fmt: skip
        statistics = study.statistics("inputs", gradients=False)
        for bits in options.bits:
            for name in ("of the whole model", "a walk, original blocks", "a walk, encoded blocks", "a walk, encoded blocks, gradients"):
                its = statistics if "whole" in name else walk(study, "encoded" in name, "gradients" in name)
                size, gap, seconds = study.measure(bits, calibration=its, effort=options.effort)
                lines.append(f"| {bits:g} | {size:.3f} | {name} | {gap:.4f} | {seconds:.0f} |")
                print(lines[-1], flush=True)
            options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
