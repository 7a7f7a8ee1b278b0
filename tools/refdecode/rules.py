"""The refusal that names a rule of the pages, and small helpers that every page needs."""

from __future__ import annotations


class Refused(Exception):
    """A file, or one tensor of it, breaks a rule of the pages."""

    def __init__(self, rule: str, message: str):
        super().__init__(f"{rule}: {message}")
        self.rule = rule


def must(condition: bool, rule: str, message: str) -> None:
    if not condition:
        raise Refused(rule, message)


def is_uint(value: object, low: int = 0, high: int = 2**64 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
