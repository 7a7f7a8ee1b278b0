"""The command line: what it prints, what it makes, how it fails."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from wcodec.cli import main
from wcodec.container.layout import Trailer, checksum
from wcodec.container.writer import ContainerWriter
from wcodec.types import MemoryStream, Section, Spec

COMMANDS = ("encode", "decode", "inspect", "verify", "diff")
WRONG = {
    "gguf": (b"GGUF\x03\0\0\0" + bytes(200), "a GGUF file"),
    "pickle": (pickle.dumps({"weight": [1.0] * 50}), "a pickle"),
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>" + b" " * 100, "an HTML page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 90868376\n" + b"\n" * 60, "a Git LFS pointer"),
    "empty": (b"", "an empty file"),
}


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "layers.0.weight": rng.standard_normal((64, 96), np.float32),
        "layers.0.bias": np.zeros(96, np.float32),
        "layers.1.weight": rng.standard_normal((64, 96)).astype(np.float16),
        "ids": np.arange(100, dtype=np.int64),
        "scale": np.array(1.5, np.float32),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a small model in both formats."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WCODEC_THREADS", raising=False)
    save_file(tensors(), "m.safetensors", {"format": "pt"})
    assert main(["encode", "m.safetensors"]) == 0
    return tmp_path


@pytest.fixture
def sharded(folder):
    """The same with a sharded checkpoint in ``in/``."""
    Path("in").mkdir()
    parts = [{k: v for k, v in tensors().items() if k.startswith("layers.0")}, {"ids": tensors()["ids"]}]
    where = {}
    for i, part in enumerate(parts, 1):
        name = f"model-0000{i}-of-00002.safetensors"
        save_file(part, f"in/{name}", {"format": "pt"})
        where |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": sum(v.nbytes for part in parts for v in part.values())}, "weight_map": where}
    Path("in/model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


@pytest.fixture
def run(folder, capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(args)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def one_line(err: str) -> str:
    assert err.startswith("wcodec: ") and err.count("\n") == 1
    return err


def damaged(path: str, at: int, name: str = "bad.wcodec") -> str:
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 0x40
    Path(name).write_bytes(data)
    return name


def stamped(path: str, name: str, **changes: int) -> str:
    """Copy a file with other values in its trailer and a checksum that fits."""
    data = Path(path).read_bytes()
    trailer = Trailer.unpack(data[-40:], len(data))
    values = {key: getattr(trailer, key) for key in Trailer.__slots__} | changes
    manifest = data[trailer.offset : -40]
    values["checksum"] = checksum(manifest, Trailer(**values).head())
    Path(name).write_bytes(data[:-40] + Trailer(**values).pack())
    return name


def unknown_codec(name: str = "new.wcodec") -> str:
    section = Section("hologram", {}, {"data": MemoryStream(np.zeros(12, np.uint8))})
    with ContainerWriter(name) as writer:
        writer.add("w", Spec.of("F32", 3), section, bytes(32))
    return name


def test_encode_says_what_it_did(run):
    Path("m.wcodec").unlink()
    code, out, err = run("encode", "m.safetensors")
    assert code == 0 and not err
    assert out.startswith("m.safetensors ") and " → m.wcodec " in out and out.endswith("s: lossless, read back\n")
    assert "%, 38.1 KB once loaded) in " in out
    code, out, _ = run("encode", "m.safetensors", "-o", "other.wcodec", "--no-readback", "-j", "1", "--backend", "numpy")
    assert code == 0 and out.endswith("lossless, not read back\n")
    assert Path("m.wcodec").read_bytes() == Path("other.wcodec").read_bytes()


def test_round_trip_is_byte_for_byte(run):
    code, out, _ = run("decode", "m.wcodec", "-o", "copy.safetensors", "-j", "2")
    assert code == 0 and out.endswith("the source byte for byte, digests checked\n")
    assert Path("copy.safetensors").read_bytes() == Path("m.safetensors").read_bytes()


def test_default_names(run):
    Path("sub").mkdir()
    Path("m.safetensors").rename("sub/a.b.safetensors")
    assert run("encode", "sub/a.b.safetensors")[0] == 0 and Path("sub/a.b.wcodec").is_file()
    before = Path("sub/a.b.safetensors").read_bytes()
    Path("sub/a.b.safetensors").unlink()
    assert run("decode", "sub/a.b.wcodec")[0] == 0 and Path("sub/a.b.safetensors").read_bytes() == before
    Path("out").mkdir()
    assert run("decode", "m.wcodec", "-o", "out")[0] == 0 and Path("out/m.safetensors").is_file()


@pytest.mark.parametrize("command, source, target", [("encode", "m.safetensors", "t.wcodec"), ("decode", "m.wcodec", "t.safetensors")])
def test_existing_target(run, command, source, target):
    Path(target).write_bytes(b"mine")
    code, out, err = run(command, source, "-o", target)
    assert code == 3 and not out and "--force" in one_line(err) and err.startswith(f"wcodec: {target}: ")
    assert Path(target).read_bytes() == b"mine"
    assert run(command, source, "-o", target, "--force")[0] == 0 and Path(target).stat().st_size > 100
    assert not list(Path().glob(".wcodec-*"))


def test_globs(run):
    assert run("encode", "m.safetensors", "-t", "*.weight", "-t", "ids", "-o", "some.wcodec")[0] == 0
    names = [row["name"] for row in json.loads(run("inspect", "some.wcodec", "--json")[1])["tensors"]]
    assert sorted(names) == ["ids", "layers.0.weight", "layers.1.weight"]
    code, out, _ = run("decode", "m.wcodec", "--tensor", "layers.0.*", "-o", "some.safetensors")
    assert code == 0 and "2 tensors, digests checked" in out
    assert run("diff", "m.wcodec", "some.safetensors", "-t", "layers.0.*")[0] == 0
    for command in ("encode m.safetensors -o x", "decode m.wcodec -o x", "inspect m.wcodec", "diff m.wcodec m.wcodec"):
        code, _, err = run(*command.split(), "-t", "nothing*")
        assert code == 3 and "no tensor matches nothing*" in one_line(err) and err.startswith("wcodec: m.")


def test_inspect(run):
    code, out, err = run("inspect", "m.wcodec")
    lines = out.splitlines()
    assert code == 0 and not err and lines[0] == "lossless"
    assert lines[1].split() == ["name", "dtype", "shape", "codec", "bpw", "size"]
    row = next(line for line in lines if line.startswith("layers.0.weight")).split()
    assert row[1:4] == ["F32", "64×96", row[3]] and float(row[-3]) <= 33
    assert any(line.startswith("5 tensors in 1 file: ") and line.endswith(" as safetensors") for line in lines)
    size = Path("m.safetensors").stat().st_size
    assert f"of {size / 1000:.1f} KB as safetensors" in out
    assert "metadata: format = pt" in lines and any(line.startswith("encoder: ") for line in lines)
    code, out, _ = run("inspect", "m.wcodec", "--tree", "-t", "layers.0.weight")
    assert code == 0 and "64×96" in out and "└─ " in out and "1 tensor chosen" in out


def test_inspect_safetensors(run):
    code, out, _ = run("inspect", "m.safetensors")
    assert code == 0 and out.startswith("safetensors, not encoded\n") and "64×96" in out and "5 tensors in 1 file" in out
    found = json.loads(run("inspect", "m.safetensors", "--json", "-t", "ids")[1])
    assert found["format"] == "safetensors" and found["tensors"] == [{"name": "ids", "dtype": "I64", "shape": [100], "raw_size": 800}]


def test_verify(run):
    bad = damaged("m.wcodec", 70)
    assert run("verify", "m.wcodec")[:2] == (0, f"m.wcodec: good, 5 tensors, {Path('m.wcodec').stat().st_size / 1000:.1f} KB\n")
    assert "all decoded" in run("verify", "--deep", "m.wcodec")[1]
    code, out, err = run("verify", bad, "m.wcodec", "absent.wcodec", "--no-progress")
    assert code == 1 and "m.wcodec: good" in out and out.endswith("3 files: 1 good, 1 damaged, 1 could not be checked\n")
    assert err.splitlines()[0].startswith("wcodec: bad.wcodec: ") and "[C-13]" in err and "wcodec: absent.wcodec: " in err
    assert run("verify", "m.wcodec", "absent.wcodec")[0] == 3


def test_verify_expands_globs_and_folders(run):
    Path("sub").mkdir()
    for name in ("a", "b"):
        Path(f"sub/{name}.wcodec").write_bytes(Path("m.wcodec").read_bytes())
    assert run("verify", "sub/*.wcodec")[1].count("good") == 3
    assert run("verify", "sub")[1].startswith("sub/a.wcodec: good")
    damaged("m.wcodec", 70, "sub/a.wcodec")
    code, out, err = run("verify", "sub")
    assert code == 1 and "sub/b.wcodec: good" in out and err.startswith("wcodec: sub/a.wcodec: ")
    assert run("verify", "no*.wcodec")[0] == 3
    Path("void").mkdir()
    assert run("verify", "void")[0] == 3


def test_diff(run):
    code, out, _ = run("diff", "m.safetensors", "m.wcodec")
    assert (code, out) == (0, "same: 5 tensors, bit for bit\n")
    other = tensors(1) | {"new": np.ones(3, np.float32), "ids": np.arange(3)}
    del other["scale"]
    save_file(other, "o.safetensors", {"format": "pt"})
    code, out, _ = run("diff", "m.wcodec", "o.safetensors")
    assert code == 1
    assert out.splitlines()[:3] == ["only in A: scale", "only in B: new", "other dtype or shape: ids"]
    assert out.endswith("different: 1 only in A, 1 only in B, 1 other dtype or shape, 2 other values; 1 the same\n")
    found = json.loads(run("diff", "m.wcodec", "o.safetensors", "--json")[1])
    assert found["same"] is False and found["only_b"] == ["new"] and sorted(found["values"]) == ["layers.0.weight", "layers.1.weight"]


def test_sharded(run, sharded):
    code, out, _ = run("encode", "in", "-o", "enc")
    assert code == 0 and "lossless, read back" in out
    names = ["model-00001-of-00002.wcodec", "model-00002-of-00002.wcodec", "model.wcodec.index.json"]
    assert sorted(p.name for p in Path("enc").iterdir()) == names
    code, out, _ = run("inspect", "enc/model.wcodec.index.json")
    assert code == 0 and "3 tensors in 2 files" in out
    assert run("decode", "enc", "-o", "dec")[0] == 0
    for path in Path("in").glob("*.safetensors"):
        assert (Path("dec") / path.name).read_bytes() == path.read_bytes()
    assert json.loads(Path("dec/model.safetensors.index.json").read_text()) == json.loads(
        Path("in/model.safetensors.index.json").read_text()
    )
    assert run("diff", "in", "enc")[0] == 0
    assert run("inspect", "in")[1].endswith("metadata: format = pt\n")


def test_verify_sharded(run, sharded):
    assert run("encode", "in/model.safetensors.index.json", "-o", "enc")[0] == 0
    code, out, _ = run("verify", "--deep", "enc")
    assert code == 0 and "enc/model.wcodec.index.json: good, 2 shards, 3 tensors" in out and "3 files: 3 good" in out
    Path("enc/model-00002-of-00002.wcodec").write_bytes(Path("m.wcodec").read_bytes())
    code, _, err = run("verify", "enc")
    assert code == 1 and "model-00002-of-00002.wcodec: " in one_line(err) and "[C-29]" in err
    Path("enc/model-00002-of-00002.wcodec").unlink()
    assert run("verify", "enc")[0] == 3
    assert "wcodec: enc/model-00002-of-00002.wcodec: " in run("decode", "enc", "-o", "dec")[2]


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_files_are_named(run, kind, command):
    data, what = WRONG[kind]
    Path("w.bin").write_bytes(data)
    code, out, err = run(command, "w.bin", *(["m.wcodec"] if command == "diff" else []))
    assert code == 1 and not out and what in one_line(err) and err.startswith("wcodec: w.bin: not a ")


def test_wrong_way_round(run):
    assert "a wcodec file" in run("encode", "m.wcodec", "-o", "x.wcodec")[2]
    assert "a safetensors file" in run("decode", "m.safetensors", "-o", "x.safetensors")[2]


@pytest.mark.parametrize("command", COMMANDS[1:])
@pytest.mark.parametrize("size", [5, 60, 300, -1])
def test_cut_off(run, command, size):
    Path("cut.wcodec").write_bytes(Path("m.wcodec").read_bytes()[:size])
    code, _, err = run(command, "cut.wcodec", *(["m.wcodec"] if command == "diff" else []))
    assert code == 1 and "cut" in one_line(err)


@pytest.mark.parametrize("size", [60, -10])
def test_cut_off_source(run, size):
    Path("cut.safetensors").write_bytes(Path("m.safetensors").read_bytes()[:size])
    code, _, err = run("encode", "cut.safetensors")
    assert code == 1 and "cut-off download" in one_line(err) and not Path("cut.wcodec").exists()


@pytest.mark.parametrize("command", ["decode", "verify"])
def test_damaged(run, command):
    bad = damaged("m.wcodec", 70)
    code, _, err = run(command, bad)
    assert code == 1 and "[C-13]" in one_line(err) and err.startswith("wcodec: bad.wcodec: ") and not Path("bad.safetensors").exists()
    code, _, err = run("diff", "m.wcodec", bad)
    assert code == 1 and one_line(err).startswith("wcodec: bad.wcodec: ")


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_cannot_tell(run, command):
    more = ["m.wcodec"] if command == "diff" else []
    code, _, err = run(command, stamped("m.wcodec", "newer.wcodec", major=2), *more)
    assert code == 3 and "version" in one_line(err) and "[C-7]" in err
    code, _, err = run(command, "absent.wcodec", *more)
    assert code == 3 and one_line(err).startswith("wcodec: absent.wcodec: no such file")
    code, _, err = run(command, stamped("m.wcodec", "minor.wcodec", minor=9), *more)
    assert code == 0 and not err


@pytest.mark.parametrize("command", ["decode", "verify"])
def test_unknown_codec(run, command):
    code, _, err = run(command, unknown_codec())
    assert code == 3 and "hologram" in one_line(err) and "[C-24]" in err


def test_no_folder_to_write_to(run):
    code, _, err = run("encode", "m.safetensors", "-o", "no/such/m.wcodec")
    assert code == 3 and one_line(err) == "wcodec: no/such: no such file or directory\n"


USAGE = """encode | nonsense | encode a b | encode m.safetensors --recip x | encode m.safetensors --recipe nonsense -o x.wcodec
decode m.wcodec --backend abacus | decode m.wcodec -j -1 | verify | diff m.wcodec"""


@pytest.mark.parametrize("args", USAGE.replace("\n", " | ").split(" | "))
def test_usage(run, args):
    code, out, err = run(*args.split())
    assert code == 2 and not out and one_line(err)
    code, out, err = run(*args.split(), "--json")
    assert code == 2 and not err and set(json.loads(out)) == {"error", "rule", "path"}


def test_help_teaches(run):
    code, out, _ = run("--help")
    assert code == 0 and all(command in out for command in COMMANDS) and "Exit codes" in out
    for command in COMMANDS:
        code, out, _ = run(command, "--help")
        assert code == 0 and out.count(f"wcodec {command} ") >= 3 and "Examples:" in out
    assert run()[0] == 2
    assert run("--version")[1].startswith("wcodec 0.")


def test_json(run):
    found = json.loads(run("encode", "m.safetensors", "-o", "j.wcodec", "--json")[1])
    assert (
        found["lossless"] is found["readback"] is True and found["size"] == Path("j.wcodec").stat().st_size and len(found["tensors"]) == 5
    )
    found = json.loads(run("decode", "j.wcodec", "-o", "j.safetensors", "--json")[1])
    assert found["same_file"] is True and found["size"] == Path("j.safetensors").stat().st_size
    found = json.loads(run("inspect", "j.wcodec", "--json")[1])
    assert found["format"] == "wcodec" and found["summary"] == "lossless" and found["metadata"] == {"format": "pt"}
    assert {"name", "dtype", "shape", "codec", "bits", "size", "tree"} <= set(found["tensors"][0])
    code, out, _ = run("verify", "j.wcodec", damaged("m.wcodec", 70), "--json")
    found = json.loads(out)
    assert code == 1 and found["good"] is False and [row["good"] for row in found["files"]] == [True, False]
    assert found["rule"] == found["files"][1]["rule"] == "C-13" and found["path"] == "bad.wcodec"


@pytest.mark.parametrize("command", COMMANDS)
def test_json_errors(run, command):
    code, out, err = run(command, "absent", *(["m.wcodec"] if command == "diff" else []), "--json")
    found = json.loads(out)
    assert code == 3 and not err and found["path"] == "absent" and found["rule"] is None and "no such file" in found["error"]


def test_names_cannot_harm_a_terminal(run):
    save_file({"[bold]x\u202e": np.ones(3, np.float32)}, "evil\x1b[31m.safetensors", {"k\x1b]0;title\x07": "[red]v\n\x9b2J"})
    assert run("encode", "evil\x1b[31m.safetensors", "-o", "evil.wcodec")[0] == 0
    for args in ("inspect evil.wcodec", "inspect evil.wcodec --tree", "inspect evil\x1b[31m.safetensors", "diff evil.wcodec m.wcodec"):
        _, out, _ = run(*args.split())
        assert "[bold]x\\u202e" in out and not set("\x1b\x07\x9b\u202e") & set(out)
    assert "\x1b" not in run("verify", "no\x1b[31m")[2]


def test_interrupt(run, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wcodec.api.encoder.encode", stop)
    assert run("encode", "m.safetensors") == (130, "", "wcodec: interrupted\n")


def test_progress_on_a_terminal(run, monkeypatch, capsys):
    monkeypatch.setattr("wcodec.cli.progress.PATIENCE", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert "m.safetensors" in run("encode", "m.safetensors", "-o", "p.wcodec")[2]
    assert run("encode", "m.safetensors", "-f", "-o", "p.wcodec", "--no-progress")[2] == ""


def test_processes(folder):
    """The module runs, and neither a closed pipe nor a full disk behind stdout ends in a traceback."""
    command = [sys.executable, "-m", "wcodec", "inspect", "m.wcodec"]
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout.startswith("lossless\n") and "64\\xd796" in done.stdout
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([*command, "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 3 and "no space left" in one_line(done.stderr)


def test_help_imports_little():
    code = "import sys; from wcodec.cli import main; main(['--help']); sys.exit('numpy' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_limit(run):
    """A tiny file may not claim gigabytes, unless it is told so."""
    with ContainerWriter("zeros.wcodec") as writer:
        writer.add("zeros", Spec.of("U8", 2 << 30), Section("const", {"value": b"\0"}), bytes(32))
    assert run("decode", "zeros.wcodec")[0] == 3 and not Path("zeros.safetensors").exists()
    assert run("verify", "--limit", "3 potatoes", "zeros.wcodec")[0] == 2
    assert run("verify", "--limit", "3GB", "zeros.wcodec")[0] == 0
