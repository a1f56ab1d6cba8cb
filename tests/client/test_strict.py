"""Plain mappings to dataclasses: what is accepted, and that nothing unexpected is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.strict import nearest, parse, require
from fer_models.errors import ConfigError


@dataclass(frozen=True)
class Part:
    width: int
    name: str = "x"


@dataclass(frozen=True)
class Whole:
    part: Part
    share: float = 0.5
    kind: Literal["one", "two"] = "one"
    flag: bool = False
    words: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    limit: float | None = None
    extra: Mapping[str, int] = field(default_factory=dict)


def test_everything_at_once():
    given = {
        "part": {"width": 3},
        "share": 1,
        "kind": "two",
        "flag": True,
        "words": ["a", "b"],
        "parts": [{"width": 1, "name": "y"}],
        "limit": 2,
        "extra": {"a": 1},
    }
    found = parse(Whole, given)
    assert found == Whole(Part(3), 1.0, "two", True, ("a", "b"), (Part(1, "y"),), 2.0, {"a": 1})
    assert type(found.share) is float, "a whole number becomes a float, so that texts and digests agree"
    assert parse(Whole, {"part": {"width": 3}, "limit": None}) == Whole(Part(3))


WRONG = [
    (7, "expected a mapping, got 7 (w)"),
    ({}, "a value is missing (w.part). Give part."),
    ({"part": {}}, "a value is missing (w.part.width)"),
    ({"part": {"width": 3, "nam": "y"}}, "unknown key 'nam' (w.part). Did you mean name?"),
    ({"part": {"width": 3}, "zzz": 1}, "unknown key 'zzz' (w). Use one of extra, flag,"),
    ({"part": [3]}, "expected a mapping, got [3] (w.part)"),
    ({"part": {"width": 3.0}}, "expected int, got 3.0 (w.part.width)"),
    ({"part": {"width": True}}, "expected int, got True (w.part.width)"),
    ({"part": {"width": "3"}}, "expected int, got '3' (w.part.width)"),
    ({"part": {"width": 3, "name": 3}}, "expected str, got 3 (w.part.name)"),
    ({"part": {"width": 3}, "share": "1"}, "expected float, got '1' (w.share)"),
    ({"part": {"width": 3}, "share": False}, "expected float, got False (w.share)"),
    ({"part": {"width": 3}, "share": None}, "expected float, got None (w.share)"),
    ({"part": {"width": 3}, "share": float("nan")}, "the value is not finite (w.share)"),
    ({"part": {"width": 3}, "share": float("-inf")}, "the value is not finite (w.share)"),
    ({"part": {"width": 3}, "share": 10**400}, "the value is not finite (w.share)"),
    ({"part": {"width": 3}, "limit": "none"}, "expected float, got 'none' (w.limit)"),
    ({"part": {"width": 3}, "kind": "tow"}, "unknown value 'tow' (w.kind). Did you mean two?"),
    ({"part": {"width": 3}, "kind": ["one"]}, "unknown value ['one'] (w.kind)"),
    ({"part": {"width": 3}, "flag": 1}, "expected bool, got 1 (w.flag)"),
    ({"part": {"width": 3}, "words": "ab"}, "expected a list, got 'ab' (w.words)"),
    ({"part": {"width": 3}, "words": {"a": 1}}, "expected a list, got {'a': 1} (w.words)"),
    ({"part": {"width": 3}, "words": 5}, "expected a list, got 5 (w.words)"),
    ({"part": {"width": 3}, "words": ["a", 1]}, "expected str, got 1 (w.words[1])"),
    ({"part": {"width": 3}, "parts": [{"width": 1}, {}]}, "a value is missing (w.parts[1].width)"),
    ({"part": {"width": 3}, "extra": [1]}, "expected a mapping, got [1] (w.extra)"),
    ({"part": {"width": 3}, "extra": {"a": "b"}}, "expected int, got 'b' (w.extra.a)"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_is_not_expected_is_refused_with_its_path(given, message):
    with pytest.raises(ConfigError) as error:
        parse(Whole, given, "w")
    assert str(error.value).startswith(message)
    assert error.value.cure
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["part", "share", "kind", "flag", "words", "parts", "limit", "extra", "width"])


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(KEYS, JSON | st.fixed_dictionaries({"width": JSON}), max_size=4))
def test_any_mapping_is_parsed_or_refused(given):
    try:
        found = parse(Whole, given, "w")
    except ConfigError as error:
        assert error.where.startswith("w")
        return
    assert type(found.part.width) is int
    assert all(isinstance(word, str) for word in found.words)


def test_cures_name_the_nearest_words_or_all():
    assert nearest("momentun", ["rate", "momentum"]) == "Did you mean momentum?"
    assert nearest("qqq", ["rate", "batch"]) == "Use one of batch, rate."


def test_require():
    require(True, "never", "here", "Nothing.")
    with pytest.raises(ConfigError, match=r"^what \(here\)\. Do this\.$"):
        require(False, "what", "here", "Do this.")
