"""Pack files: sound ones become packs; of others every mistake is told at once, with its line and its remedy."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from rules.book import pack_files
from rules.core.language import OnMissing
from rules.core.loader import load_pack, load_packs, read_packs
from rules.core.places import MAX_BYTES
from tests.rules.builders import WAITING, down, pack, pack_text, rule

THREE_MISTAKES = b"""\
pack: demo
version: 1
doc: three mistakes
conditions:
  slow:
    sli: ttft_p99_ms
    window: 10s
    above: 2
    on_missing: false
    doc: first tokens are slow
rules:
  add:
    version: 1
    priority: 10
    doc: adds
    runbook: look
    cooldown: 60
    all: [slwo]
    action: {kind: scale_up, replicas: 1}
    effect: {expect: {sli: replicas_up, window: latest, at_least: 1}, by: 60s}
    undo: {guards: [{sli: requests_waiting, window: latest, at_most: 1}]}
    tests:
      fires: {given: [{at: 0s, values: {replicas_up: 1}}], until: 1s, expect: {fires_at: 0s}}
      stays: {given: [{at: 0s, values: {replicas_up: 1}}], until: 1s, expect: {fires: never}}
"""


def errors(*files: bytes) -> list[str]:
    names = ["demo.yaml", "two.yaml"]
    with pytest.raises(ConfigError) as refused:
        load_packs(list(zip(names, files, strict=False)))
    return str(refused.value).splitlines()


def test_a_file_with_three_mistakes_tells_all_three_with_their_lines() -> None:
    assert errors(THREE_MISTAKES) == [
        "demo.yaml:6: unknown SLI 'ttft_p99_ms'. Did you mean 'ttft_p99_s'? See optiinfra catalog slis.",
        "demo.yaml:17: 60 is no duration. Write a number and its unit: 20s, 5m or 1h.",
        "demo.yaml:18: unknown condition 'slwo'. Did you mean 'slow'?",
    ]


def test_the_mistakes_of_all_files_are_told_together() -> None:
    told = errors(THREE_MISTAKES, b"pack: [")
    assert [line.split(":")[0] for line in told] == ["demo.yaml"] * 3 + ["two.yaml"]


def test_a_sound_file_is_a_pack() -> None:
    found = pack()
    assert found.pack == "demo"
    assert found.conditions["waiting"].on_missing is OnMissing.FALSE
    assert found.rules["up"].cooldown == 60.0


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "demo.yaml: the file is empty"),
        (b"- a", "demo.yaml:1: a pack is a mapping"),
        (b"pack: demo\n  version: 1", "demo.yaml:2: not YAML: mapping values are not allowed here"),
        (b"pack: a\npack: b", "demo.yaml:2: key 'pack' again, first on line 1. Keep one."),
        (b"pack: demo\ndoc: \xff", "demo.yaml:2: not UTF-8: byte 0xff. Save the file as UTF-8."),
        (b"x" * (MAX_BYTES + 1), f"demo.yaml: {MAX_BYTES + 1} bytes are more than"),
        (b"[" * 100_000, "demo.yaml: nested too deeply"),
        (b"pack: !!python/name:os.system x", "demo.yaml:1: not YAML: could not determine a constructor"),
        (b"pack: !!set {}", "demo.yaml:1: tag 'tag:yaml.org,2002:set' is not part of the language. Drop it."),
        (b"a: &a [x, x]\nb: {<<: *a}", "demo.yaml:2: `<<` is not part of the language"),
        (b"a: &a\n  b: *a", "demo.yaml: nested too deeply"),
        (b"pack: 2026-99-99", "demo.yaml:1: '2026-99-99' cannot be read. Put it in quotes."),
    ],
    ids=["empty", "list", "indent", "twice", "latin", "large", "deep", "tag", "set", "merge", "loop", "date"],
)
def test_what_is_no_pack_is_refused_in_words(raw: bytes, said: str) -> None:
    told = errors(raw)
    assert any(line.startswith(said) for line in told), told


def test_aliases_that_stand_for_billions_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "values, aliases counted each time" in errors("\n".join(lines).encode())[0]


def test_a_name_that_yaml_reads_as_a_boolean_is_a_name() -> None:
    text = pack_text().replace(b"waiting:", b"on:").replace(b"- waiting", b"- 'on'")
    assert list(load_pack(text, "demo.yaml").conditions) == ["on"]


CONDITIONS: list[tuple[dict[str, Any], str]] = [
    ({"above": None}, "one comparison is needed, not none"),
    ({"below": 1}, "one comparison is needed, not above and below"),
    ({"until": 5}, "until 5 is on the same side as above 4. It lies below 4."),
    ({"until": 4}, "until 4 is on the same side as above 4"),
    ({"on_missing": None}, "field 'on_missing' is missing. Add it."),
    ({"on_missing": "maybe"}, "on_missing: 'maybe' is not known. There is 'false', 'true' or 'keep'."),
    ({"sli": "request_waiting"}, "unknown SLI 'request_waiting'. Did you mean 'requests_waiting'? See optiinfra"),
    ({"sli": "ttft_burn_rate"}, "'ttft_burn_rate' has no latest value. Choose a window: 10s, 60s, 300s."),
    ({"window": "15s"}, "'15s' is no window. There are latest, 10s, 60s, 300s."),
    ({"for": "20"}, "'20' is no duration. Write a number and its unit: 20s, 5m or 1h."),
    ({"for": "-3s"}, "'-3s' is no duration."),
    ({"for": "25h"}, "for: input should be less than or equal to 86400"),
    ({"above": "4"}, "above: input should be a valid number. It says '4'."),
    ({"above": True}, "above: input should be a valid number. It says True."),
    ({"above": float("inf")}, "above: input should be a finite number"),
    ({"abov": 4}, "unknown field 'abov'. Did you mean 'above'?"),
    ({"doc": " "}, "doc: string should have at least 1 character"),
]


@pytest.mark.parametrize(("change", "said"), CONDITIONS, ids=[said[:40] for _, said in CONDITIONS])
def test_a_condition_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    body = {name: value for name, value in (WAITING | change).items() if value is not None}
    text = pack_text(conditions={"waiting": body}).replace(b"Infinity", b".inf")
    assert any(said in line for line in errors(text)), errors(text)


def effect(**changes: Any) -> dict[str, Any]:
    return {"expect": {"sli": "replicas_up", "window": "latest", "at_least": 1}, "by": "60s"} | changes


def amount(**changes: Any) -> dict[str, Any]:
    return {"action": {"kind": "scale_up", "replicas": changes}}


def expecting(**changes: Any) -> dict[str, Any]:
    return {"effect": effect(expect={"sli": "replicas_up", "window": "latest"} | changes)}


def case(expect: dict[str, Any], **changes: Any) -> dict[str, Any]:
    given = [{"at": "0s", "values": {"replicas_up": 1}}]
    return {"tests": {"one": {"given": given, "until": "9s", "expect": expect} | changes}}


RULES: list[tuple[dict[str, Any], str]] = [
    ({"all": None}, "rule 'up' fires on nothing. Name a condition in `all` or `any`."),
    ({"all": None, "none": ["waiting"]}, "rule 'up' fires on nothing."),
    ({"none": ["waiting"]}, "condition 'waiting' stands in all already. Keep one."),
    ({"action": {"kind": "scale_down", "replicas": 1, "stacks": True}}, "a scale_down does not stack. Leave `stacks`"),
    ({"action": {"kind": "scale_up", "replicas": 1, "restores": True}}, "a scale_up restores no settings. Leave"),
    ({"undo": None}, "the undo of this action takes capacity. Add `undo"),
    ({"undo": {"guards": []}}, "guards: tuple should have at least 1 item"),
    ({"cooldown": "0s"}, "cooldown: input should be greater than 0"),
    ({"cooldown": None}, "field 'cooldown' is missing"),
    ({"priority": 65536}, "priority: input should be less than or equal to 65535"),
    ({"priority": "9"}, "priority: input should be a valid integer"),
    ({"version": True}, "version: input should be a valid integer"),
    (
        {"action": {"kind": "scale", "replicas": 1}},
        "kind: 'scale' is not known. There is 'scale_up', 'scale_down', 'tune', 'route', 'queue', 'context' or "
        "'breaker'.",
    ),
    ({"action": {"kind": "scale_up", "replicas": 0}}, "replicas: input should be greater than or equal to 1"),
    (amount(sli="replicas_up"), "a number that is worked out needs `sli` and `most`."),
    (amount(sli="replicas_up", most=1, least=2), "most 1 is below least 2"),
    (amount(sli="replicas_up", most=1, over=0), "over: input should be greater than 0"),
    (amount(sli="ttft_p99_s", most=1), "'ttft_p99_s' has no latest value"),
    (amount(sli="replicas_up", most=1, round="near"), "round: 'near' is not known. There is 'up' or 'down'."),
    (amount(exactly=1, most=2), "a fixed number is not worked out as well"),
    (expecting(), "one comparison is needed, not none"),
    (expecting(at_least={"now": "replicas_up"}), "a value is a number, or `now` with one of plus and minus."),
    (expecting(at_least={"now": "replicas_up", "plus": 1, "minus": 1}), "`now` with one of plus and minus."),
    (expecting(at_least={"now": "replicas_up", "plus": "all"}), "'all' is no number. Write one, or `replicas`"),
    (expecting(at_least={"now": "ttft_p99_s", "plus": 1}), "'ttft_p99_s' has no latest value"),
    (expecting(at_least={"value": 1, "plus": 1}), "a fixed value is not worked out as well"),
    ({"effect": effect(by="0s")}, "by: input should be greater than 0"),
    ({"effect": effect(byy="1s")}, "unknown field 'byy'. Did you mean 'by'?"),
    (case({"fires": "never"}), "rule 'up' has no test in which it fires. Write one: a rule proves itself."),
    (case({"fires_at": "0s"}), "rule 'up' has no test in which it does not fire."),
    (case({"fires_at": "0s", "fires": "never"}), "a test expects `fires_at: 10s` or `fires: never`"),
    (case({}), "a test expects `fires_at: 10s` or `fires: never`"),
    (case({"fires": "never", "replicas": 1}), "what never fires has no replicas"),
    (case({"fires_at": "10s"}), "the test ends at 9s, before all of it has come. Raise `until`."),
    (case({"fires_at": "0s"}, given=[]), "given: tuple should have at least 1 item"),
    (case({"fires_at": "0s"}, given=[{"at": "0s", "values": {"replica_up": 1}}]), "Did you mean 'replicas_up'?"),
    (case({"fires_at": "0s"}, given=[{"at": "0s", "values": {"replicas_up@9s": 1}}]), "'9s' is no window."),
    (case({"fires_at": "0s"}, given=[{"at": "0s", "values": {"ttft_p99_s": 1}}]), "has no latest value. Say which"),
    (
        case({"fires_at": "0s"}, given=[{"at": "5s", "values": {"replicas_up@10s": 1}}]),
        "'replicas_up@10s' changes at 5s, where no 10s window ends. Such windows are told at 0s, 10s, 20s and so on.",
    ),
    (
        case({"fires_at": "0s"}, given=[{"at": "5s", "values": {"replicas_up": 1}}] * 2),
        "the moments of `given` must rise. Sort them, each once.",
    ),
]


@pytest.mark.parametrize(("change", "said"), RULES, ids=[f"{n}: {said[:40]}" for n, (_, said) in enumerate(RULES)])
def test_a_rule_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    told = errors(pack_text({"up": rule(**change)}))
    assert any(said in line for line in told), told
    assert all(line.startswith("demo.yaml:") for line in told)


def test_names_are_words_of_small_letters() -> None:
    assert "'Up Now' is no name" in errors(pack_text({"Up Now": rule()}))[0]


def test_rules_priorities_and_packs_stand_once_among_all_packs() -> None:
    two = pack_text({"down": down(priority=100), "up": rule(priority=7)}, {"waiting": WAITING})
    told = errors(pack_text(), two)
    assert [line.split(": ", 1)[1].split(",")[0] for line in told] == [
        "pack 'demo' again",
        "priority 100 again",
        "rule 'up' again",
    ]
    assert all("first in demo.yaml:" in line for line in told)


def test_the_priorities_of_one_pack_are_its_own() -> None:
    assert "priority 100 again" in errors(pack_text({"up": rule(), "more": rule()}))[0]


def test_a_comma_that_was_meant_as_text_is_told_as_such() -> None:
    text = THREE_MISTAKES.replace(b"{kind: scale_up, replicas: 1}", b"{kind: scale_up, replicas: 1, or so}")
    said = "demo.yaml:19: unknown field 'or so'. A comma in {…} begins a field: put text that has one in quotes."
    assert said in errors(text)


BUILT_IN = pack_files()[0].read_bytes()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_a_file_holds_it_is_a_pack_or_an_error_with_a_line_for_each_mistake(data: st.DataObject) -> None:
    lines = BUILT_IN.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = data.draw(
            st.sampled_from(
                [
                    [],
                    [lines[at]] * 2,
                    [lines[at][::-1]],
                    [lines[at].replace(b":", b"")],
                    [b"  " + lines[at]],
                    [b"- x\n"],
                ]
            )
        )
    refused(b"".join(lines))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("60s"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_stands_at_any_place_of_a_pack_is_taken_or_refused_in_words(data: st.DataObject) -> None:
    tree = yaml.safe_load(pack_text())
    at = tree
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(VALUES)
    refused(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


def refused(raw: bytes) -> None:
    """Nothing but an error for people comes out, each of its lines with the file."""
    _, problems = read_packs([("demo.yaml", raw)])
    assert all(line.startswith("demo.yaml:") for told in problems for line in told.splitlines()), problems
