"""What a walk along a model costs: wcodec encode --calibrate on a Llama of random weights, made shard by shard.

python tools/study_walk.py      # a billion weights, 2 GB of disk; writes tools/results/walk.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

RESULTS = Path(__file__).parent / "results" / "walk.md"
WIDTH, INNER, KEYS, VOCABULARY = 2048, 5632, 256, 32000


def make(folder: Path, layers: int) -> int:
    """Write a checkpoint of bfloat16 weights, a shard for the embedding and one for each block; return the number of weights."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=4, tie_word_embeddings=True, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(folder)
    square, keys = (WIDTH, WIDTH), (KEYS, WIDTH)
    attention = {"q_proj": square, "k_proj": keys, "v_proj": keys, "o_proj": square}
    mlp = {"gate_proj": (INNER, WIDTH), "up_proj": (INNER, WIDTH), "down_proj": (WIDTH, INNER)}
    shapes = {f"self_attn.{name}.weight": its for name, its in attention.items()} | {f"mlp.{name}.weight": its for name, its in mlp.items()}
    norms = ("input_layernorm.weight", "post_attention_layernorm.weight")
    where, count = {}, 0
    for i in range(layers + 1):
        its = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
        if i:
            its = {f"model.layers.{i - 1}.{name}": shape for name, shape in (shapes | dict.fromkeys(norms, (WIDTH,))).items()}
        shard = f"model-{i + 1:05}-of-{layers + 1:05}.safetensors"
        if not (folder / shard).exists():
            torch.manual_seed(i)
            tensors = {name: torch.randn(shape).mul_(0.02) if len(shape) > 1 else torch.rand(shape) + 0.5 for name, shape in its.items()}
            save_file({name: its.bfloat16() for name, its in tensors.items()}, folder / shard, {"format": "pt"})
        where |= dict.fromkeys(its, shard)
        count += sum(prod(shape) for shape in its.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return count


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, as far as they are still there."""
    found = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found += file.stat().st_size
    return found


def watched(command: list[str], folder: Path) -> tuple[float, int, int]:
    """Run a command; return its seconds, its greatest resident memory, and the most bytes that walks had in the folder meanwhile."""
    began, memory, disk = time.perf_counter(), 0, 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = max(memory, *(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        disk = max(disk, sum(map(size_of, folder.glob(".wcodec-walk-*"))))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, memory, disk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--calibrated", type=int, help="last blocks that become trellises; to save time, others are uniform")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--bits", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, help="where the model is made; kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        model = folder / "model"
        model.mkdir(exist_ok=True, parents=True)
        count = make(model, options.layers)
        np.savez(folder / "ids.npz", np.random.default_rng(0).integers(0, VOCABULARY, options.tokens))
        command = [
            sys.executable, "-m", "wcodec", "encode", str(model), "--bpw", f"{options.bits:g}", "--effort", "fast", "--calibrate",
            str(folder / "ids.npz"), "--context", str(options.context), "-o", str(folder / "encoded"), "--force",
        ]  # fmt: skip
        few = options.calibrated if options.calibrated is not None else options.layers
        command += [f"-tmodel.layers.{i}.*_proj.weight=uniform" for i in range(options.layers - few)]
        seconds, memory, disk = watched(command, folder)
        encoded = sum(file.stat().st_size for file in (folder / "encoded").glob("*.wcodec"))
        block = WIDTH * (2 * WIDTH + 2 * KEYS + 3 * INNER)
        moments = 3 * WIDTH**2 + INNER**2
        lines = [
            "# A walk along a model", "",
            f"`python tools/study_walk.py`: `wcodec encode model/ --bpw {options.bits:g} --effort fast --calibrate ids.npz` on a Llama of "
            f"{options.layers} blocks,",
            f"{count:,} random weights in bfloat16, with {options.tokens} tokens in pieces of {options.context}.",
            *([f"To save time, all blocks but {few} were `uniform`; the walk went along all of them."] * (few < options.layers)), "",
            "| what | bytes |", "|---|---|",
            f"| the model | {size_of(model):,} |",
            f"| the result ({8 * encoded / count:.4f} bits per weight) | {encoded:,} |",
            f"| greatest resident memory, torch and transformers included | {memory:,} |",
            f"| most of temporary files: activations and the statistics of a block | {disk:,} |",
            f"| for comparison: a block in float32 | {4 * block:,} |",
            f"| the embedding in float32 | {4 * VOCABULARY * WIDTH:,} |",
            f"| second moments of a block in float32 | {4 * moments:,} |",
            f"| those of all blocks, as wcodec calibrate would store them | {2 * options.layers * moments:,} |",
            "", f"It took {seconds:.0f} s with {os.environ.get('WCODEC_THREADS', 'all')} threads, on a machine that did other work, too.",
        ]  # fmt: skip
        options.output.write_text("\n".join(lines) + "\n")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
