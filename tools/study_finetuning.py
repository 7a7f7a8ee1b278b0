"""What fine-tuning adds to a walk: all-MiniLM-L6-v2, mean 1 − cosine, as in study_calibration.py.

The 96 tensors of its layers are encoded, as norms and biases are to be trained; embeddings are the float model's.

    python tools/study_finetuning.py        # writes tools/results/finetuning.md
    OMP_NUM_THREADS=1 python tools/study_finetuning.py --bits --recipes trellis:relative=0.26,states=8 --texts 120     # quicker
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from study_calibration import Study
from study_sequential import walk

RESULTS = Path(__file__).parent / "results" / "finetuning.md"
LAYERS = ("encoder.layer.*",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bits", type=float, nargs="*", default=[3.0, 4.0], help="none: recipes have steps")
    parser.add_argument("--recipes", nargs="+", default=["trellis", "nwc"])
    parser.add_argument("--texts", type=int, default=300, help="to calibrate with")
    parser.add_argument("--effort", default="fast")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), LAYERS)
        study.calibration = study.calibration[: options.texts]
        lines = [
            "# Fine-tuning and MiniLM-L6", "",
            f"`python tools/study_finetuning.py`: mean 1 − cosine of embeddings of {len(study.test)} texts to the float model's;",
            f"calibrated and fine-tuned with {len(study.calibration)} others, effort {options.effort}. All bytes of files of the 96",
            "tensors of the layers count.", "",
            "| recipe | bits asked | file, bits | calibration | 1 − cosine | seconds |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for bits in options.bits or [None]:
            for recipe in options.recipes:
                for name in ("none", "a walk", "a walk, fine-tuned"):
                    its = None if name == "none" else walk(study, finetune="tuned" in name)
                    size, gap, seconds = study.measure(bits, recipe=recipe, calibration=its, effort=options.effort)
                    lines.append(f"| {recipe} | {bits or ''} | {size:.3f} | {name} | {gap:.5f} | {seconds:.0f} |")
                    print(lines[-1], flush=True)
                    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
