"""Trains a net for the codec nwc and measures it: float training, then integer arithmetic in the loop, export, rate and distortion.

Written below --out: NAME.bin (the integer net, spec/net.md), NAME.json (the profile, data with digests, seeds, digest of the net), NAME.md
(rates and errors) and NAME.pt (the checkpoint: --resume goes on with it, with the same files, and ends as if nothing had interrupted it;
with --steps, a run goes on to more than it was begun for, at the rate that it would have there).
--minutes is turned into a number of steps by timing the first ones; --steps repeats a run exactly, on as many threads of the same machine.
Levels of ``fast`` at which the net adds to the error of held-out weights are made to add nothing. Needs torch.

    python tools/models.py minilm whisper      # weights of real models
    cd ~/.cache/wcodec-bench
    python tools/train_nwc.py --minutes 10 --files minilm.bf16.safetensors whisper.bf16.safetensors --unseen craft.bf16.safetensors
    python tools/train_nwc.py --profile paper --width 64 --minutes 5 --files …
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from blake3 import blake3
from torch import Generator, Tensor

from wcodec.coding import net as nets
from wcodec.train import measure, nwc, pieces

TRIAL = 20
"""Steps that are timed."""
SAVED = 500
MEASURED = 4096
"""Pieces of every set that is measured, 64 weights each."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=sorted(nwc.PROFILES), default="fast")
    parser.add_argument("--width", type=int, help="of hidden layers (default: the profile's)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=25.0)
    length.add_argument("--steps", type=int)
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="safetensors to learn from, beside synthetic weights")
    parser.add_argument("--unseen", type=Path, nargs="*", default=[], help="safetensors to measure only")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--name", help="of the files written (default: the profile)")
    parser.add_argument("--resume", type=Path, help="a checkpoint to go on with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=512, help="pieces of 64 weights per step")
    parser.add_argument("--pieces", type=int, default=400_000, help="pieces of real weights to draw from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def begin(options: argparse.Namespace, real: Tensor) -> nwc.Run:
    """Resume a run or start one, as long as asked for."""
    if options.resume:
        run = nwc.Run.resume(options.resume, options.device)
        return replace(run, steps=max(run.step, options.steps or run.steps))
    profile = nwc.PROFILES[options.profile]
    profile = replace(profile, width=options.width or profile.width)

    def start(steps: int) -> nwc.Run:
        return nwc.Run.start(profile, steps=steps, seed=options.seed, batch=options.batch, device=options.device)

    if options.steps:
        return start(options.steps)
    trial = start(TRIAL)
    trial.advance(real, TRIAL // 4)
    began = time.monotonic()
    trial.advance(real, TRIAL)
    return start(max(2, int(options.minutes * 60 / (time.monotonic() - began) * (TRIAL - TRIAL // 4))))


def train(run: nwc.Run, real: Tensor, checkpoint: Path) -> None:
    began, first = time.monotonic(), run.step
    while run.step < run.steps:
        loss = run.advance(real, min(run.steps, run.step + SAVED))
        run.save(checkpoint)
        left = (time.monotonic() - began) / (run.step - first) * (run.steps - run.step)
        print(f"step {run.step} of {run.steps}, loss {loss:.4f}, {left / 60:.1f} minutes left", flush=True)


def described(path: Path) -> dict[str, object]:
    return {"name": path.name, "bytes": path.stat().st_size, "blake3": blake3(path.read_bytes()).hexdigest()}


def table(points: list[measure.Point]) -> str:
    """Return the points as a table of Markdown."""
    head = "weights | level | lattice | bits | MSE | net saves | below rounding | above ideal scalar | above R(D) | float net saves"
    rows = [head, " | ".join(["---"] * 10)]
    for p in points:
        kind = "trellis" if p.trellis else "scalar"
        smooth = p.net + 0.5 * np.log2(p.mse / p.unrounded)
        numbers = [f"{p.bits:.3f}", f"{p.mse:.3e}", *(f"{v:+.4f}" for v in (p.net, p.rounding, p.scalar, p.shannon, smooth))]
        rows.append(" | ".join([p.source, str(p.level), kind, *numbers]))
    return "\n".join(f"| {row} |" for row in rows)


def main() -> int:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("highest")
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.name or options.profile
    real, held = pieces.read(options.files, options.pieces, options.seed)
    run = begin(options, real)
    began = time.monotonic()
    train(run, real, options.out / f"{name}.pt")
    minutes = (time.monotonic() - began) / 60

    draw = Generator().manual_seed(options.seed + 1)
    sets = {"Gaussian": pieces.gaussian(MEASURED, draw)}
    sets |= {"held out": held[torch.randperm(len(held), generator=draw)[:MEASURED]]} if len(held) else {}
    sets |= {path.name.split(".")[0]: pieces.read([path], MEASURED, options.seed)[0] for path in options.unseen}
    judge = "held out" if len(held) else "Gaussian"
    silent: list[int] = []
    if not run.model.profile.learned:
        silent = [p.level for p in measure.measure(run.model, run.model.net.export(), {judge: sets[judge]}) if p.net < 0]
        run.model.silence(silent)
    net = run.model.net.export()
    points = measure.measure(run.model, net, sets)
    data = nets.pack(net).tobytes()
    (options.out / f"{name}.bin").write_bytes(data)
    record = {
        "profile": asdict(run.model.profile),
        "net": {"bytes": len(data), "products": net.products, "blake3": blake3(data).hexdigest()},
        "training": {
            "steps": run.steps,
            "seed": run.seed,
            "batch": run.batch,
            "pieces": len(real),
            "minutes": round(minutes, 1),
        },  # since it was resumed
        "silent": silent,
        "versions": {"torch": torch.__version__, "threads": options.threads, "device": options.device},
        "files": [described(path) for path in options.files],
    }
    (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / f"{name}.md").write_text(table(points) + "\n")
    print(table(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
