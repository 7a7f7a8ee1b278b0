"""Compile the Triton kernels ahead of time, without a GPU, and write what they take to tools/results/kernels.md.

``python tools/kernels.py [NAME …]`` does so for the kernels whose names begin so, and keeps the rows of the others; with --check it
compares instead, prints the rows that differ and the names that have no rows or rows without kernels, and fails if there are any.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tools/results/kernels.md"
sys.path.insert(0, str(ROOT))
os.environ.pop("TRITON_INTERPRET", None)  # an interpreted kernel cannot be compiled

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

import wcodec.backends.triton as package  # noqa: E402
from wcodec.backends.triton.launch import WARPS, Kernel  # noqa: E402

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
HEAD = f"""# What the kernels take

Written by `tools/kernels.py` with Triton {triton.__version__}: compiled ahead of time for {WARPS} warps, without fusing
operations on floats. No GPU has run them here.
`loop`: instructions of the first innermost loop, for the decoder of 32 lanes that of four symbols per lane: 128 symbols of a block
per warp (a wave of 64 decodes two blocks). `spills`: loads and stores of spilled registers; bytes of scratch memory on gfx942.
`shared`: bytes a program has. `inexact`: operations on floats that are fused, approximate or flush subnormals, in PTX (gfx942: in
LLVM's code), and fused ones in machine code, but for those that divisions are made of: with divisions, sums and products that it lacks.

| kernel | target | registers | spills | shared | instructions | loop | inexact |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Figures:
    """What a compiled kernel takes."""

    registers: int
    spills: int
    shared: int
    instructions: int
    loop: int
    inexact: int

    def row(self, name: str, target: str) -> str:
        loop = self.loop or "–"
        return f"| {name} | {target} | {self.registers} | {self.spills} | {self.shared} | {self.instructions} | {loop} | {self.inexact} |"


def kernels() -> list[Kernel]:
    """Return the kernels of all modules of the backend."""
    modules = [importlib.import_module(f"{package.__name__}.{its.name}") for its in pkgutil.iter_modules(package.__path__)]
    return [kernel for module in modules for kernel in getattr(module, "KERNELS", ())]


def compiled(kernel: Kernel, target: GPUTarget) -> Figures:
    """Compile a kernel and look at its machine code."""
    _, function, signature, constants = kernel
    if "NB" in constants and target.warp_size == 64:  # one lane for every thread
        constants = constants | {"NB": 2 * constants["NB"]}
    pointers = [i for i, kind in enumerate(signature.values()) if kind.startswith("*")]
    source = ASTSource(function, signature, constexprs=constants, attrs={(i,): [["tt.divisibility", 16]] for i in pointers})
    made = triton.compile(source, target=target, options={"num_warps": WARPS, "enable_fp_fusion": False})
    read = _nvidia if target.backend == "cuda" else _amd
    return read(made)


def _nvidia(made: triton.compiler.CompiledKernel) -> Figures:
    code, usage = _dump(made.asm["cubin"])
    ptx, instructions = made.asm["ptx"], [text for _, text in code]
    inexact = len(re.findall(r"\bfma\.|\.ftz\b|\.approx\b|\bdiv\.full", ptx))
    if re.search(r"(div|sqrt|rcp)\.rn\.f", ptx):
        stated = len(re.findall(r"\b(add|sub|mul)\.(rn\.)?f32", ptx))
        inexact += max(0, stated - sum(bool(re.search(r"\bF(ADD|MUL) ", text)) for text in instructions))
    else:
        inexact += sum(_fuses(text) for text in instructions)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None
    spills = sum(bool(re.search(r"\b(STL|LDL)\b", text)) for _, text in code)
    places = {at: i for i, (at, _) in enumerate(code)}
    jumps = [(i, places[int(m.group(1), 16)]) for i, (_, text) in enumerate(code) if (m := re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text))]
    return Figures(int(registers.group(1)), spills, made.metadata.shared, len(code), _loop(jumps, instructions), inexact)


def _loop(jumps: list[tuple[int, int]], code: list[str]) -> int:
    """Return the instructions of the first loop that holds no other. jumps: places of jumps, and where they lead."""
    loops = sorted((to, at) for at, to in jumps if to < at)
    # What stands behind the end of a kernel and jumps back into it is no loop.
    loops = [(to, at) for to, at in loops if not any(re.match(r"(@\S+ )?EXIT|s_endpgm", text) for text in code[to : at + 1])]
    inner = [(to, at) for to, at in loops if not any(to <= a and b <= at for a, b in loops if (a, b) != (to, at))]
    return inner[0][1] - inner[0][0] + 1 if inner else 0


def _fuses(text: str) -> bool:
    """Tell whether an instruction multiplies floats and adds; constants are sometimes made with one that multiplies by zero."""
    return bool(re.search(r"\b(FFMA|DFMA|HFMA2)\b", text)) and "RZ, RZ" not in text


def _dump(cubin: bytes) -> tuple[list[tuple[int, str]], str]:
    """Return addresses and instructions, and the usage of resources."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        made = [subprocess.run([tool, flag, file.name], capture_output=True, text=True, check=True) for flag in ("-sass", "-res-usage")]
    sass, usage = (run.stdout for run in made)
    lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", sass, re.MULTILINE)
    code = [(int(at, 16), text) for at, text in lines]
    while code and code[-1][1].split()[0] in ("NOP", "BRA"):  # what fills the last cache line
        code.pop()
    return code, usage


def _amd(made: triton.compiler.CompiledKernel) -> Figures:
    text, llvm = made.asm["amdgcn"], made.asm["llir"]
    code: list[str] = []
    inside: dict[str, int] = {}  # instructions by the header of the loop that they stand in
    loops: list[str] = []
    inner = label = ""
    for line in text.splitlines():
        if block := re.match(r"(?:\.L(BB\w+):|; %bb)", line):
            inner, label = "", block.group(1)
        if re.search(r"=>\s*This Inner Loop Header", line):  # LLVM says which loop a block stands in
            inner = label
            loops.append(label)
        elif within := re.search(r"in Loop: Header=(\w+)", line):
            inner = within.group(1)
        if re.match(r"\t(s|v|ds|global|flat|buffer|scratch)_\w+", line):
            code.append(line.strip())
            inside[inner] = inside.get(inner, 0) + 1

    def fact(name: str) -> int:
        found = re.search(rf"{name}:?\s+(\d+)", text)
        return int(found.group(1)) if found else 0

    loose = r"\bf(?:add|sub|mul|div) (?:\w+ )*?(?:fast|contract|afn|arcp|reassoc)\b|call .*@llvm\.(?:fma|fmuladd)\."
    inexact = len(re.findall(loose, llvm))
    inexact += int(fact(".amdhsa_float_denorm_mode_32") != 3 or fact(".amdhsa_float_denorm_mode_16_64") != 3)
    if not re.search(r"v_div_|v_sqrt|v_rcp_", text):  # divisions of integers are made of products of floats too
        # What multiplies by 1 only adds, once it has widened halves.
        inexact += sum(bool(re.match(r"v_(pk_)?(fma|mad_f|mac_f)", its)) and ", 1.0, " not in its for its in code)
    loop = inside[loops[0]] if loops else 0
    return Figures(fact("; NumVgprs"), fact("; ScratchSize"), made.metadata.shared, len(code), loop, inexact)


def key_of(row: str) -> tuple[str, ...]:
    """Return kernel and target of a row."""
    return tuple(cell.strip() for cell in row.split("|")[1:3])


def stored() -> dict[tuple[str, ...], str]:
    """Return the rows of the table."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    return {key_of(row): row for row in text.splitlines() if row.startswith("|") and key_of(row)[1] in TARGETS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="how the names of kernels begin; all when absent")
    parser.add_argument("--check", action="store_true", help="compare, and print what differs")
    options = parser.parse_args()
    everything = [(kernel, target) for kernel in kernels() for target in TARGETS]
    first = stored()
    odd = {(kernel[0], target) for kernel, target in everything} ^ first.keys() if options.check else set()
    changed = bool(odd)
    print(*sorted(odd), sep="\n")
    for kernel, target in everything:
        if options.names and not kernel[0].startswith(tuple(options.names)):
            continue
        row = compiled(kernel, TARGETS[target]).row(kernel[0], target)
        if row != first.get((kernel[0], target)):
            changed = True
            print(row, flush=True)
            if not options.check:
                rows = stored() | {(kernel[0], target): row}
                RESULTS.write_text(HEAD + "".join(f"{rows[its[0], at]}\n" for its, at in everything if (its[0], at) in rows))
    return int(options.check and changed)


if __name__ == "__main__":
    raise SystemExit(main())
