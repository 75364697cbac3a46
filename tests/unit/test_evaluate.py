"""nDCG and recall against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.errors import ImportInvalid
from lockstep.evaluate import ndcg, read_qrels, recall

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"d": 0}}


def test_the_best_order_scores_one() -> None:
    """The ideal ranking is the yardstick."""
    assert ndcg({"q1": ["a", "b", "c"]}, QRELS, 10) == pytest.approx(1.0)


def test_gain_is_linear_as_in_trec_eval() -> None:
    """b, x, a: 1/log2(2) + 2/log2(4) = 2, over the best 2/log2(2) + 1/log2(3) = 2.63093."""
    assert ndcg({"q1": ["b", "x", "a"]}, QRELS, 10) == pytest.approx(2 / 2.6309297)


def test_only_the_first_k_count() -> None:
    """What comes later is not seen, in the ranking and in the ideal one."""
    assert ndcg({"q1": ["x", "a"]}, QRELS, 1) == 0
    assert ndcg({"q1": ["a", "x"]}, QRELS, 1) == pytest.approx(1.0)


def test_a_query_without_an_answer_scores_nothing_and_one_without_judgements_is_left_out() -> None:
    """q2 has no relevant document, so it says nothing; q1 was not answered, so it says 0."""
    assert ndcg({}, QRELS, 10) == 0
    assert recall({"q1": ["a"]}, QRELS, 10) == pytest.approx(0.5)


def test_judgements_are_read_in_beirs_form(tmp_path: Path) -> None:
    """Ids may hold anything but a tab."""
    path = tmp_path / "test.tsv"
    path.write_text('query-id\tcorpus-id\tscore\nq1\t<dbpedia:"A">\t2\nq1\tb\t0\n', encoding="utf-8")
    assert read_qrels(path) == {"q1": {'<dbpedia:"A">': 2, "b": 0}}


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    """Line 3 has no number."""
    path = tmp_path / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\tgood\n", encoding="utf-8")
    with pytest.raises(ImportInvalid, match="line 3"):
        read_qrels(path)
