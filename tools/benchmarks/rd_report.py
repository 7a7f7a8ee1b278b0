"""The table, the claims and the picture that plot_rd.py draws from its measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Points = Sequence[Mapping[str, Any]]

LOOKS: Mapping[str, tuple[str, str]] = {
    "trellis, 256 states": ("#0b5394", "-"),
    "trellis, 32 states": ("#3d85c6", "-"),
    "trellis, 8 states": ("#9fc5e8", "-"),
    "uniform": ("#6aa84f", "-"),
    "NNCodec, dependent": ("#cc0000", "-"),
    "NNCodec": ("#e69138", "-"),
    "scalar, ideal": ("#777777", "--"),
    "GGUF": ("#674ea7", ""),
    "groups of 64": ("#a64d79", ""),
    "Gaussian bound": ("black", ":"),
}
"""Colour and line of a curve; without a line, marks alone."""
TRELLISES = tuple(name for name in LOOKS if name.startswith("trellis"))
DEFAULT = "trellis, 32 states"
BLOCKS = ("Q4_K", "Q5_K", "Q6_K")


class Curves:
    """The curves of a model: error in dB and bits per weight of every point."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.count, self.points = int(found["weights"]), dict(found["curves"])

    def rates(self, name: str) -> F64:
        return np.array([8 * point["bytes"] / self.count for point in self.points[name]])

    def errors(self, name: str) -> F64:
        return np.array([10 * np.log10(point["error"]) for point in self.points[name]])

    def bits(self, name: str, error: float) -> float:
        """Return the bits per weight of a curve at an error, between its points in a straight line; nan outside them."""
        errors, order = self.errors(name), np.argsort(self.errors(name))
        return float(np.interp(error, errors[order], self.rates(name)[order], np.nan, np.nan))

    def below(self, name: str, other: str) -> Iterator[tuple[float, float]]:
        """Yield, for every point of another curve, its rate and the bits that this one saves at its error."""
        for rate, error in zip(self.rates(other), self.errors(other), strict=True):
            if not np.isnan(saved := rate - self.bits(name, error)):
                yield float(rate), saved

    def under(self, name: str, other: str, least: float = 0.0) -> list[float]:
        """Return the bits that every point of a curve from some rate on saves against another one."""
        pairs = zip(self.rates(name), self.errors(name), strict=True)
        found = [self.bits(other, error) - rate for rate, error in pairs if rate >= least]
        return [value for value in found if not np.isnan(value)]


def claims(model: str, curves: Curves) -> Iterator[tuple[str, float, float]]:
    """Yield what is claimed of the curves that there are: words, the least value found, and what it must be."""
    for name, goal in ((DEFAULT, 0.14), ("trellis, 256 states", 0.16)):
        if name in curves.points:
            yield f"{model}: {name}, bits below ideal scalar coding from 2 bits on", min(curves.under(name, "scalar, ideal", 2.0)), goal
    if DEFAULT not in curves.points:
        return
    if (other := "NNCodec, dependent") in curves.points:
        yield f"{model}: {DEFAULT}, bits below NNCodec with dependent quantisation", min(s for _, s in curves.below(DEFAULT, other)), 0.0
        ours, its = (speeds(curves, name) for name in (DEFAULT, other))
        ratios = [np.interp(rate, curves.rates(DEFAULT), ours) / speed for rate, speed in zip(curves.rates(other), its, strict=True)]
        yield f"{model}: {DEFAULT}, times NNCodec's speed of decoding", float(min(ratios)), 40.0
    for point in curves.points.get("GGUF", ()):
        if point["setting"] in BLOCKS:
            rate, error = 8 * point["bytes"] / curves.count, 10 * np.log10(point["error"])
            yield f"{model}: {DEFAULT}, bits below {point['setting']}", rate - curves.bits(DEFAULT, error), 0.6
    if "uniform" in curves.points:
        tried = [name for name in TRELLISES if name in curves.points]
        yield f"{model}: any trellis, bits below uniform", min(saved for name in tried for saved in curves.under(name, "uniform")), 0.0


def speeds(curves: Curves, name: str) -> list[float]:
    """Return million weights decoded a second."""
    return [curves.count / point["decode"] / 1e6 for point in curves.points[name]]


def lines(results: Mapping[str, Any], about: str) -> Iterator[str]:
    yield "# Rate and distortion"
    yield ""
    yield about
    yield ""
    yield "![bits per weight and error of all codecs](rd.png)"
    yield ""
    yield "| claim | least value | must be | |"
    yield "|---|---|---|---|"
    for model, found in results.items():
        for words, value, goal in claims(model, Curves(found)):
            yield f"| {words} | {value:.3f} | {goal:g} | {'yes' if value >= goal else '**no**'} |"
    for model, found in results.items():
        curves = Curves(found)
        yield ""
        yield f"## {model}: {found['tensors']} matrices, {curves.count:,} weights (`{found['of']}`)"
        yield ""
        yield "| codec | setting | bits per weight | error, dB | below scalar | above the bound | encode, M/s | decode, M/s |"
        yield "|---|---|---|---|---|---|---|---|"
        for name in LOOKS:
            if name in curves.points and name not in ("scalar, ideal", "Gaussian bound"):
                yield from rows(curves, name)
    yield ""


def rows(curves: Curves, name: str) -> Iterator[str]:
    for point, rate, error in zip(curves.points[name], curves.rates(name), curves.errors(name), strict=True):
        gaps = (curves.bits("scalar, ideal", error) - rate, rate - curves.bits("Gaussian bound", error))
        told = ["-" if np.isnan(gap) else f"{gap:.3f}" for gap in gaps]
        speed = [f"{curves.count / point[key] / 1e6:.1f}" if point[key] else "-" for key in ("encode", "decode")]
        yield f"| {name} | {point['setting']} | {rate:.3f} | {error:.2f} | {' | '.join(told + speed)} |"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw bits per weight above the Gaussian bound, over the error: curves that would lie on each other otherwise."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(11, 5), sharey=True, squeeze=False)
    for axis, (model, found) in zip(axes[0], results.items(), strict=True):
        curves = Curves(found)
        for name, (colour, line) in LOOKS.items():
            if name in curves.points:
                rates = curves.rates(name)
                gaps = [rate - curves.bits("Gaussian bound", error) for rate, error in zip(rates, curves.errors(name), strict=True)]
                marks = "." if name not in ("scalar, ideal", "Gaussian bound") else ""
                axis.plot(rates, gaps, color=colour, linestyle=line, marker=marks, label=name, linewidth=1.2)
        for point in curves.points.get("GGUF", ()):
            rate, error = 8 * point["bytes"] / curves.count, 10 * np.log10(point["error"])
            place = rate, rate - curves.bits("Gaussian bound", error)
            axis.annotate(point["setting"], place, textcoords="offset points", xytext=(3, 3), fontsize=7)
        axis.set(title=f"{model}, {curves.count / 1e6:.1f} M weights", xlabel="bits per weight", xlim=(1, 9), ylim=(-0.05, 1.9))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("bits per weight above the Gaussian bound at its error")
    axes[0][0].legend(fontsize=8, loc="upper right", ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def write(results: Mapping[str, Any], folder: Path, about: str) -> None:
    """Write rd.md and rd.png into a folder."""
    page = "\n".join(lines(results, about))
    (folder / "rd.md").write_text(page)
    print(page)
    draw(results, folder / "rd.png")
