"""The language of gates: what is read, what is refused and where, and how scores are held against it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.errors import ConfigError, LockstepError, UnknownName
from lockstep.evaluate.gate import Checked, Condition, Measure, Outcome, parse_gate
from lockstep.evaluate.measures import MEASURES, scores_of

NDCG = Measure("ndcg", 10)


@pytest.mark.parametrize(
    ("text", "sign", "factor", "offset"),
    [
        ("ndcg@10 >= 0.98 * current", ">=", 0.98, 0),
        ("ndcg@10>=0.98*current", ">=", 0.98, 0),
        ("  NDCG@10 > Current ", ">", 1, 0),
        ("ndcg@10 >= current - 0.01", ">=", 1, -0.01),
        ("ndcg@10 >= current + .02", ">=", 1, 0.02),
        ("ndcg@10 >= 0.45", ">=", 0, 0.45),
        ("ndcg@10 > 1.", ">", 0, 1),
    ],
)
def test_each_form_is_read(text: str, sign: str, factor: float, offset: float) -> None:
    """Spaces and capitals do not matter."""
    (condition,) = parse_gate(text).conditions
    assert condition == Condition(NDCG, sign, factor, offset)  # type: ignore[arg-type]
    assert parse_gate(text).is_relative == (factor > 0)


def test_conditions_are_joined() -> None:
    """What is looked at is listed once, and searched as deep as the deepest needs."""
    gate = parse_gate("ndcg@10 >= 0.98 * current and recall@200 >= 0.9 AND ndcg@10 > 0.1")
    assert gate.measures == (NDCG, Measure("recall", 200))
    assert (gate.depth, gate.is_relative, len(gate.conditions)) == (200, True, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("ndcg >= 0.5", r'"ndcg" \(character 1 of "ndcg >= 0.5"\) does not say how far it looks\. Write ndcg@10'),
        ("ndcg@0 >= 0.5", '"ndcg@0"'),
        ("ndcg@x >= 0.5", '"ndcg@x"'),
        ("ndcg@ >= 0.5", '"ndcg@"'),
        ("ndcg@10001 >= 0.5", "from 1 to 10000"),
        ("ndcg@10 => 0.5", r'"=>" \(character 9 '),
        ("ndcg@10 <= 0.5", "A higher measure is better"),
        ("ndcg@10 0.5", r'"0.5" \(character 9 .* where ">=" or ">" should be'),
        ("ndcg@10 >=", r"the end \(character 11 "),
        ("ndcg@10 >= 98%", "from 0 to 1"),
        ("ndcg@10 >= 0.98%", r'"%" \(character 16 .* where "and" or the end'),
        ("ndcg@10 >= -0.5", r'"-" \(character 12 '),
        ("ndcg@10 >= 0.98 * old", r'"old" \(character 19 '),
        ("ndcg@10 >= current * 0.98", r'"\*" \(character 20 '),
        ("ndcg@10 >= current -", r"the end \(character 21 .* where a number"),
        ("ndcg@10 >= 0.5 and", "where a measure"),
        ("ndcg@10 >= 0.5, recall@10 >= 0.5", r'"," \(character 15 '),
        ("ndcg@10 >= 0.5 or recall@10 >= 0.5", '"or"'),
        (" and ".join(["ndcg@10 >= 0.5"] * 21), "21 conditions"),
        ("x" * 1001, "1,001 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, message: str) -> None:
    """And with what should be there."""
    with pytest.raises(ConfigError, match=message):
        parse_gate(text)


def test_an_unknown_measure_is_told_with_the_nearest() -> None:
    """And where it stands."""
    with pytest.raises(UnknownName, match=r'Did you mean "recall"') as caught:
        parse_gate("ndcg@10 > 0.5 and recal@10 > 0.5")
    assert "(character 19 of" in str(caught.value)


@given(st.text(alphabet="ndcg@10 >=*current-.and5%\n", max_size=60) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else happens."""
    try:
        gate = parse_gate(text)
    except LockstepError as error:
        assert str(error)  # noqa: PT017
    else:
        assert gate.conditions


def checked(text: str, value: float, current: float | None = None) -> Checked:
    (condition,) = parse_gate(text).conditions
    return condition.check(value, current)


def test_scores_are_held_against_it() -> None:
    """By hand."""
    relative = checked("ndcg@10 >= 0.98 * current", 0.481, 0.512)
    assert (relative.holds, relative.wanted) == (False, pytest.approx(0.50176))
    assert relative.text == "ndcg@10 0.481, wanted 0.98 * 0.512 = 0.502"
    assert checked("ndcg@10 >= 0.98 * current", 0.502, 0.512).holds
    assert checked("ndcg@10 >= current - 0.01", 0.502, 0.512).text == "ndcg@10 0.502, wanted 0.512 - 0.01 = 0.502"
    assert checked("ndcg@10 > current", 0.512, 0.512).text == "ndcg@10 0.512, wanted more than 0.512"
    assert not checked("ndcg@10 > current", 0.512, 0.512).holds
    assert checked("ndcg@10 >= 0.5", 0.5).text == "ndcg@10 0.500, wanted 0.500"


def test_rounding_decides_nothing() -> None:
    """A mean that is stored a little below what it is still counts as equal, and never as more."""
    tenths = sum([0.1, 0.2]) * 10 / 10
    assert tenths != 0.3
    assert checked("recall@10 >= 0.3", 0.3 - 1e-16).holds
    assert checked("recall@10 >= current", 0.3, tenths).holds
    assert not checked("recall@10 > 0.3", tenths).holds


def test_numbers_that_differ_look_different() -> None:
    """Three digits, or as many as it takes."""
    assert checked("ndcg@10 >= 0.5", 0.49996).text == "ndcg@10 0.49996, wanted 0.50000"


def test_all_conditions_must_hold() -> None:
    """Those that do not are named; all, where all do."""
    gate = parse_gate("ndcg@10 >= 0.5 and recall@10 >= 0.9 * current")
    recall = Measure("recall", 10)
    failed = gate.check({NDCG: 0.6, recall: 0.5}, {NDCG: 0.1, recall: 0.8})
    assert (failed.met, str(failed)) == (False, "recall@10 0.500, wanted 0.9 * 0.800 = 0.720")
    passed = gate.check({NDCG: 0.6, recall: 0.8}, {NDCG: 0.1, recall: 0.8})
    assert passed.met
    assert str(passed).startswith("ndcg@10 0.600, wanted 0.500; recall@10 0.800, ")
    assert isinstance(passed, Outcome)


def test_measures_are_those_of_evaluate() -> None:
    """All of them, by the same names and with the same values."""
    ranking, grades = ["x", "a", "y", "b"], {"a": 1, "b": 3, "far": 1}
    scores = scores_of(ranking, grades, [10], 10)
    assert {f"{name}@10" for name in MEASURES} == set(scores)
    for name in MEASURES:
        assert Measure(name, 10).of(ranking, grades) == scores[f"{name}@10"]
