"""The command line: parse, call, print. Numpy and the api are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from wcodec.cli import calibrate, codecs, decode, diff, encode, inspect, quality, recipes, selftest, verify
from wcodec.cli.errors import GOOD, PIPE, UNTOLD, USAGE, Failure, silence
from wcodec.cli.text import safe

HELP = """Compressed model files: a safetensors checkpoint goes in, one small .wcodec file comes out, and the same checkpoint comes back.

\b
wcodec encode model.safetensors             makes model.wcodec beside it
wcodec inspect model.wcodec                 shows what is in it
wcodec verify --deep model.wcodec           checks every byte
wcodec decode model.wcodec -o copy.safetensors
wcodec diff model.safetensors model.wcodec  compares the tensors
wcodec quality model/ model.wcodec --text FILE   compares what a language model says
wcodec calibrate model/ --text FILE -o S    gathers what encode --calibration S goes by
wcodec recipes                              lists the methods that make it smaller with loss
"""
EPILOG = """\b
Results go to stdout, progress and errors to stderr.
Exit codes: 0 good or same; 1 damaged or different; 2 wrong usage;
3 cannot tell (newer version, unknown codec, limit, missing or unreadable file).
Every command has its own help: wcodec encode --help
"""

CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""Base of all that a wrong command line raises; typer's own copy of click or click itself, depending on its version."""

app = typer.Typer(
    name="wcodec",
    help=HELP,
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _module in (encode, decode, inspect, verify, diff, quality, calibrate, recipes, codecs, selftest):
    app.command(_module.__name__.rpartition(".")[2], epilog=_module.EXAMPLES)(_module.run)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"wcodec {version('wcodec')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line (default: that of the process) and return its exit code."""
    words = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        _leave_on(number)
    code = GOOD
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            code = _run(words)
            sys.stdout.flush()
        except OSError as error:
            # Stdout cannot take the result: its reader has left, or its disk is full.
            silence()
            return PIPE if isinstance(error, BrokenPipeError) else code or UNTOLD
    return code


def _run(words: list[str]) -> int:
    try:
        code = app(words or ["--help"], prog_name="wcodec", standalone_mode=False)
    except CLICK_ERROR as error:
        return _wrong_usage(error, words)
    return USAGE if not words else code if isinstance(code, int) else GOOD


def _wrong_usage(error: Any, words: list[str]) -> int:
    """Say in one line what is wrong with the command line, and where its help is."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "wcodec"
    what = " ".join(error.format_message().split()).rstrip(".")
    options = words[: words.index("--")] if "--" in words else words
    Failure(f"{what} (see {command} --help)", None, None, USAGE).show("--json" in options)
    return USAGE


def _leave_on(number: signal.Signals) -> None:
    """Let a signal unwind the program, so that unfinished files are removed, unless somebody chose otherwise."""
    with suppress(ValueError):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"warning: {safe(str(message))}", file=sys.stderr)


__all__ = ["app", "main"]
