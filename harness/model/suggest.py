""" "Did you mean": one way to answer an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from harness.model.errors import UsageError


def unknown(
    what: str, name: str, known: Iterable[str], *, where: str = "", field: str | None = None, lead: str = ""
) -> UsageError:
    """A UsageError for a name that is not among the known ones, with the nearest as the hint.

    what: the kind of thing ("scenario"); where: prefix naming file and key path; field, lead: as in UsageError.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"{where}unknown {what} {name!r}", hint=hint, field=field, lead=lead)
