"""Keys with the releases in which they are read, and the one check that every table of them takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvtier.configs.terms import Finding, Severity, Version, nearest, said


@dataclass(frozen=True)
class Key:
    """A key is read from `since` on, and up to, not with, `until`. `instead` says what does its work elsewhere."""

    since: Version = ()
    until: Version = ()
    instead: str = ""

    def read_in(self, release: Version) -> bool:
        """Whether this release reads it."""
        return self.since <= release and not (self.until and release >= self.until)


Table = Mapping[str, Key]


def table(**since: str) -> dict[str, Key]:
    """Keys by the release that brought them: `table(v0_12="a b")`; `v` alone for those of the first release read."""
    return {
        name: Key(tuple(int(part) for part in release[1:].split("_") if part))
        for release, names in since.items()
        for name in names.split()
    }


def check_names(
    names: Iterable[str],
    known: Table,
    release: Version,
    where: str,
    system: str,
    *,
    unknown: Severity = Severity.WARNING,
    refused: str = "It is not read.",
) -> list[Finding]:
    """Unknown names, and those of another release. `refused` says what becomes of them."""
    found: list[Finding] = []
    for name in names:
        key = known.get(name)
        if key is None:
            readable = [each for each, its in known.items() if its.read_in(release)]
            fix = nearest(name, readable) or "Take it out, or see the documentation of that release."
            found.append(Finding("unknown-key", unknown, where, f"{system} knows no {name!r}. {refused}", fix))
        elif key.since > release:
            fix = key.instead or f"Take {system} {said(key.since)} or later, or leave it out."
            message = f"{name!r} came with {system} {said(key.since)}; this is {said(release)}."
            found.append(Finding("not-in-version", Severity.ERROR, where, message, fix))
        elif not key.read_in(release):
            message = f"{name!r} is gone since {system} {said(key.until)}; this is {said(release)}."
            found.append(Finding("not-in-version", Severity.ERROR, where, message, key.instead or "Take it out."))
    return found
