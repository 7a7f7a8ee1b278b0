"""Errors: one root, and for every failure where it happened, what is wrong and which rule of the spec says so."""

from __future__ import annotations


class WcodecError(Exception):
    """Root of everything that wcodec raises about files, recipes and machines.

    at: file, tensor or part concerned, filled in by the layer that knows it.
    rule: id of the spec rule that was broken, e.g. ``C-6``.
    """

    def __init__(self, message: str, *, at: str | None = None, rule: str | None = None) -> None:
        super().__init__(message)
        self.message, self.at, self.rule = message, at, rule

    def __str__(self) -> str:
        where = f"{self.at}: " if self.at else ""
        which = f" [{self.rule}]" if self.rule else ""
        return f"{where}{self.message}{which}"

    def inside(self, where: str) -> WcodecError:
        """Prefix where it happened and return the same error."""
        self.at = f"{where}: {self.at}" if self.at else where
        return self


class FormatError(WcodecError):
    """The bytes are at fault."""


class NotAContainer(FormatError):
    """The file is something else."""


class Truncated(FormatError):
    """The file ends too early: a cut-off download or an interrupted write."""


class Corrupt(FormatError):
    """A checksum or a rule of the spec does not hold."""


class UnsupportedVersion(FormatError):
    """The file needs a newer reader.

    required: the version or key that this build lacks.
    """

    def __init__(self, message: str, *, required: str, at: str | None = None, rule: str | None = None) -> None:
        super().__init__(message, at=at, rule=rule)
        self.required = required


class UnknownCodec(FormatError):
    """A tensor uses a codec that this build does not know; other tensors still load."""


class LimitExceeded(WcodecError):
    """Well-formed, but larger than the caller's ``Limits`` allow."""


class BackendUnavailable(WcodecError):
    """What was asked for cannot run on this machine."""


class RecipeError(WcodecError):
    """The recipe or one of its rules is wrong."""


class EncodeError(WcodecError):
    """The input cannot be encoded as asked."""
