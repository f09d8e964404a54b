"""What the doctor found, line by line: for a terminal, and as JSON for programs."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.errors import HarnessError

State = Literal["ok", "warn", "off", "fail"]

CANNOT = 2
"""A run is refused, or could not begin."""
MEANINGLESS = 3
"""A run would come to its end and could not decide anything, or not what was meant."""


class DiagnosisLine(msgspec.Struct, frozen=True, kw_only=True):
    """about: the target's, a dependency's or another part's name. off: what cannot be had there, which hinders nothing
    else. exit_code: what it makes of the whole; 0 but for `fail`."""

    about: str
    state: State
    fact: str
    evidence: str = ""
    remedy: str = ""
    exit_code: int = 0


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """target: its URL. config: the file that declares it, None where --host names it alone."""

    target: str
    config: str | None
    lines: tuple[DiagnosisLine, ...]

    @property
    def exit_code(self) -> int:
        """0: a run would mean something. What forbids it counts more than what makes it meaningless."""
        found = {line.exit_code for line in self.lines}
        return next((code for code in (CANNOT, MEANINGLESS) if code in found), 0)


def ok(about: str, fact: str, evidence: str = "") -> DiagnosisLine:
    return DiagnosisLine(about=about, state="ok", fact=fact, evidence=evidence)


def warn(about: str, fact: str, evidence: str = "", remedy: str = "") -> DiagnosisLine:
    return DiagnosisLine(about=about, state="warn", fact=fact, evidence=evidence, remedy=remedy)


def meaningless(about: str, fact: str, evidence: str, remedy: str) -> DiagnosisLine:
    return DiagnosisLine(about=about, state="fail", fact=fact, evidence=evidence, remedy=remedy, exit_code=MEANINGLESS)


def cannot(about: str, error: HarnessError, fact: str | None = None) -> DiagnosisLine:
    """In the words in which a run is refused."""
    return DiagnosisLine(about=about, state="fail", fact=fact or str(error), remedy=error.hint or "", exit_code=CANNOT)
