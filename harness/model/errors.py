"""Every error the harness raises on purpose.

HarnessError                 one or two lines for a person; carries `exit_code`
├── UsageError          2    wrong command line, configuration or input
│   └── Refused         2    right in form, but it must not be done (blast radius, locks, overlap)
├── SetupError          4    the harness or its stack could not be brought up
│   └── LoadError       4    the load process failed or died
├── AdapterError        4    a dependency's control interface failed
│   ├── Unreachable          nothing answered: the outcome is "not done"
│   │   └── Silent           it takes connections and answers nothing
│   ├── OutcomeUnknown       it may or may not have been done (time-out, 503): read back
│   ├── Rejected             the server said no
│   │   └── Forbidden        this login may not ask that
│   └── Gone                 that very thing provably no longer exists
├── NotProven           3    a fault that somebody's own code relies on cannot be shown to be on
└── UndoUnverified      5    a change is still there, or may be; says what is left and how to mend it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.model.exit_codes import ExitCode


class HarnessError(Exception):
    """Base class. `str(error)` is what a person reads; `hint` says what would be right."""

    exit_code: ExitCode = ExitCode.HARNESS_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(HarnessError):
    """field: of the Experiment whose value is wrong, if it is one's: whoever knows where the value came from names
    that. lead: between the name and the message; "" where the message says by itself what it is about."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, hint: str | None = None, field: str | None = None, lead: str = " ") -> None:
        super().__init__(message, hint=hint)
        self.message = message
        self.field = field
        self.lead = lead

    def __str__(self) -> str:
        return self.message if self.field is None or not self.lead else f"{self.field}{self.lead}{self.message}"


@contextmanager
def about(field: str, lead: str = "") -> Iterator[None]:
    """What is found wrong meanwhile is wrong with this field's value."""
    try:
        yield
    except UsageError as error:
        error.field, error.lead = field, lead
        raise


class Refused(UsageError):
    pass


class OtherKind(Refused):
    """Of a fault: a dependency of that kind has nothing that it could break, whatever is declared."""


class SetupError(HarnessError):
    pass


class LoadError(SetupError):
    pass


class AdapterError(HarnessError):
    pass


class Unreachable(AdapterError):
    pass


class Silent(Unreachable):
    pass


class OutcomeUnknown(AdapterError):
    pass


class Rejected(AdapterError):
    pass


class Forbidden(Rejected):
    pass


class Gone(AdapterError):
    pass


class NotProven(HarnessError):
    exit_code = ExitCode.INCONCLUSIVE


class UndoUnverified(HarnessError):
    exit_code = ExitCode.UNDO_UNVERIFIED

    def __init__(self, left: str, mend: str) -> None:
        super().__init__(left, hint=mend)
        self.left = left
        self.mend = mend


def unknown(
    what: str, name: str, known: Iterable[str], *, where: str = "", field: str | None = None, lead: str = ""
) -> UsageError:
    """A UsageError for a name that is not among the known ones, with the nearest as the hint: "did you mean".

    what: the kind of thing ("scenario"); where: prefix naming file and key path; field, lead: as in UsageError.
    """
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"{where}unknown {what} {name!r}", hint=hint, field=field, lead=lead)
