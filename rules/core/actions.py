"""The action that a rule asks for: more or fewer replicas, other engine settings for some, other shares of requests.

Which replicas are to be set anew, and which shares they should have, no rule can say by itself: an agent finds it, and
the rule names the kind of its finding. How far a setting may go, the rule says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from contracts.catalog.findings import KINDS, span_s
from contracts.events import ActionKind
from rules.core.asking import Amount
from rules.core.language import Clause, FindingName, Ident, Whole, wrong


def _kind(text: object) -> object:
    if isinstance(text, str) and text not in KINDS:
        raise wrong(f"unknown kind of finding {text!r}", fix=f"There are {', '.join(KINDS)}.")
    return text


FindingKind = Annotated[str, BeforeValidator(_kind)]


class Setting(Clause):
    """A value of an engine setting: `exactly` a number, or a finding, rounded, kept between `least` and `most`.

    A bare number is short for `exactly`. Where the finding is missing there is no number, and nothing is proposed.
    """

    exactly: Annotated[Whole, Field(ge=0, le=10_000_000)] | None = None
    finding: FindingName | None = None
    least: Annotated[Whole, Field(ge=0, le=10_000_000)] | None = None
    most: Annotated[Whole, Field(ge=0, le=10_000_000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, told: object) -> object:
        return told if isinstance(told, Mapping) else {"exactly": told}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.exactly is not None:
            if len(self.model_fields_set) > 1:
                raise wrong("a fixed setting is not worked out as well", fix="Keep the number, or the finding.")
            return self
        if self.finding is None or self.least is None or self.most is None:
            raise wrong(
                "a setting that is worked out needs `finding`, `least` and `most`", fix="Or write a plain number."
            )
        if self.most < self.least:
            raise wrong(f"most {self.most} is below least {self.least}", fix="Put them in order.")
        return self


_NEEDS = {
    ActionKind.SCALE_UP: ("replicas",),
    ActionKind.SCALE_DOWN: ("replicas",),
    ActionKind.TUNE: ("replicas_of", "settings"),
    ActionKind.ROUTE: ("shares_of",),
    **{kind: ("settings",) for kind in ActionKind if kind.gateway_setting},
}
_EXAMPLES = {
    "replicas": "As `replicas: 1`.",
    "replicas_of": "As `replicas_of: tuning`: the kind of finding that names them.",
    "settings": "As `settings: {max_num_seqs: {finding: seqs_wanted, least: 8, most: 1024}}`.",
    "shares_of": "As `shares_of: balance`: the kind of finding that has them.",
}


class ActionClause(Clause):
    """What a rule asks for. `scale_up` and `scale_down`: how many `replicas`. `tune`: engine `settings` by their flags,
    for the replicas that the newest finding of kind `replicas_of` names. `route`: the shares of requests that the
    newest finding of kind `shares_of` has for its replicas. Where that finding names none, nothing is proposed.
    `queue`, `context` and `breaker`: the one setting of a gateway that each is about (`ActionKind.gateway_setting`).

    A scale-up whose number leaves out what is ordered already may say that it `stacks`; a tune that gives back settings
    under which users waited less, that it `restores`, and what loosens a limit at a gateway too.
    """

    kind: ActionKind
    replicas: Amount | None = None
    replicas_of: FindingKind | None = None
    settings: Annotated[dict[Ident, Setting], Field(min_length=1, max_length=50)] | None = None
    shares_of: FindingKind | None = None
    stacks: bool = False
    restores: bool = False

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.stacks and self.kind is not ActionKind.SCALE_UP:
            raise wrong(f"a {self.kind} does not stack", fix="Leave `stacks` out: it is for scale-ups.")
        if self.restores and not (self.kind is ActionKind.TUNE or self.kind.gateway_setting):
            fix = "Leave `restores` out: it is for a tune, and for what is done at a gateway."
            raise wrong(f"a {self.kind} restores no settings", fix=fix)
        at_gateway = self.kind.gateway_setting
        if at_gateway and self.settings is not None and set(self.settings) != {at_gateway}:
            raise wrong(f"a {self.kind} sets {at_gateway} alone", fix=f"As `settings: {{{at_gateway}: 0}}`.")
        if self.kind is ActionKind.TUNE and any(each.exactly == 0 for each in (self.settings or {}).values()):
            raise wrong("an engine setting is a number above 0", fix="Name the value that it shall have.")
        needs = _NEEDS[self.kind]
        for name, example in _EXAMPLES.items():
            told = getattr(self, name) is not None
            if name in needs and not told:
                raise wrong(f"a {self.kind} needs `{name}`", fix=example)
            if told and name not in needs:
                raise wrong(f"a {self.kind} has no `{name}`", fix=f"It has {' and '.join(needs)}.")
        return self

    @property
    def named_by(self) -> str:
        """The kind of finding that names its replicas; empty where their number is enough."""
        return self.replicas_of or self.shares_of or ""

    @property
    def spoken_of(self) -> Iterator[tuple[str, int]]:
        """The SLIs and numbers of findings on which it rests, each with its window, seconds."""
        if self.replicas is not None and self.replicas.name:
            yield self.replicas.name, self.replicas.size_s
        for setting in (self.settings or {}).values():
            if setting.finding:
                yield setting.finding, span_s(setting.finding)
