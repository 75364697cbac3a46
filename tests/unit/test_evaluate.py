"""Measures of rankings against values worked out by hand, their intervals, and the files that judgements come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lockstep.errors import ImportInvalid
from lockstep.evaluate import bootstrap, ndcg, read_qrels, read_queries, recall, scores_of
from lockstep.evaluate.measures import overlap, resampled_means

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


def test_all_measures_of_a_ranking() -> None:
    """Found at ranks 2 and 4 of three relevant ones: worked out by hand."""
    scores = scores_of(["x", "a", "y", "b"], {"a": 1, "b": 3, "far": 1, "y": 0, "x": -1}, (2, 4), 100)
    best_4 = 3 / 1 + 1 / 1.5849625 + 1 / 2
    assert scores == pytest.approx(
        {
            "ndcg@2": (1 / 1.5849625) / (3 + 1 / 1.5849625),
            "ndcg@4": (1 / 1.5849625 + 3 / 2.3219281) / best_4,
            "recall@2": 1 / 3,
            "recall@4": 2 / 3,
            "mrr@2": 1 / 2,
            "precision@2": 1 / 2,
            "map@100": (1 / 2 + 2 / 4) / 3,
        }
    )


def test_what_is_not_found_scores_nothing() -> None:
    """An empty ranking, and one whose first relevant document comes after the cut."""
    assert set(scores_of([], {"a": 1}, (10,), 100).values()) == {0.0}
    late = scores_of(["x", "a"], {"a": 1}, (1,), 2)
    assert (late["mrr@1"], late["precision@1"], late["map@2"]) == (0, 0, 0.5)


def test_a_short_ranking_is_not_precise() -> None:
    """One of ten is a tenth, even if nothing else was found (as trec_eval)."""
    assert scores_of(["a"], {"a": 1}, (10,), 100)["precision@10"] == pytest.approx(0.1)


def test_overlap_is_the_share_of_the_exact_answer() -> None:
    """Order does not matter; a shorter exact answer is the whole of it."""
    assert overlap(["b", "a", "x"], ["a", "b", "c", "d"], 2) == 1
    assert overlap(["a", "x"], ["a", "b"], 2) == 0.5
    assert overlap(["a"], ["a"], 10) == 1
    assert overlap([], [], 10) == 1


def test_an_interval_is_that_of_the_binomial_distribution() -> None:
    """Means of a hundred zeros and ones, drawn anew, are binomial: 95 % lie from 0.40 to 0.60."""
    values = np.array([[0.0, 1.0]] * 50 + [[1.0, 1.0]] * 50)
    low, high = bootstrap(values)
    assert low == pytest.approx([0.40, 1.0], abs=0.011)
    assert high == pytest.approx([0.60, 1.0], abs=0.011)


def test_an_interval_is_as_wide_as_the_normal_one_where_that_holds() -> None:
    """Of many values, 1.96 standard errors to each side."""
    values = np.random.default_rng(1).exponential(size=(2000, 1))
    low, high = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low[0] == pytest.approx(values.mean() - half, abs=half / 10)
    assert high[0] == pytest.approx(values.mean() + half, abs=half / 10)


def test_an_interval_is_the_same_each_time_whatever_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resamples are drawn in blocks: another size of them changes no draw."""
    values = np.random.default_rng(2).random((17, 2))
    expected = resampled_means(values, 100, np.random.default_rng(0))
    assert expected.shape == (100, 2)
    monkeypatch.setattr("lockstep.evaluate.measures.CELLS", 50)
    assert np.array_equal(resampled_means(values, 100, np.random.default_rng(0)), expected)
    assert np.array_equal(bootstrap(values)[0], bootstrap(values)[0])


def test_pairs_are_resampled_together() -> None:
    """Two rankings that differ by the same amount everywhere differ by it for sure, however scattered they are."""
    scattered = np.random.default_rng(3).random(40)
    low, high = bootstrap((scattered + 0.125 - scattered)[:, None])
    assert (low[0], high[0]) == pytest.approx((0.125, 0.125))


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb c\t-1\n",
        "q1\ta\t2\nq1\tb c\t-1\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\n\r\nq1\ta\t2\r\nq1\ta\t2\r\nq1\tb c\t-1",
    ],
    ids=["header", "no header", "Windows, twice"],
)
def test_judgements_with_tabs(tmp_path: Path, text: str) -> None:
    """With a header or none; grades may be negative, and the same judgement may come twice."""
    path = tmp_path / "test.tsv"
    path.write_bytes(text.encode())
    assert read_qrels(path) == {"q1": {"a": 2, "b c": -1}}


@pytest.mark.parametrize("text", ["q1 0 a 2\nq1 0 b -1\n", "q1\t0\ta\t2\nq1\t0\tb\t-1\n", " q1  0  a  2\nq1 0 b -1"])
def test_judgements_of_trec(tmp_path: Path, text: str) -> None:
    """Four fields, with whatever blanks between them."""
    path = tmp_path / "qrels.txt"
    path.write_text(text, encoding="utf-8")
    assert read_qrels(path) == {"q1": {"a": 2, "b": -1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"test\.tsv holds no judgements"),
        ("query-id\tcorpus-id\tscore\n", r"test\.tsv holds no judgements"),
        ("q1\ta\tgood\n", r'test\.tsv line 1: the grade is "good"'),
        ("q1\ta\t1\nq1\tb\n", r"test\.tsv line 2: 'q1\\tb' has 2 fields, not 3"),
        ("q1 0 a 1\nq1 0 b 1 1\n", r"line 2: .* has 5 fields, not 4"),
        ("q1\ta\t1\nq1\ta\t2\n", r'line 2: document "a" of query "q1" has another grade'),
        ("q1,a,1\n", r"line 1: .* has 1 fields"),
    ],
)
def test_faults_in_judgements_are_named(tmp_path: Path, text: str, message: str) -> None:
    """With file and line."""
    path = tmp_path / "test.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ImportInvalid, match=message):
        read_qrels(path)


def test_queries_are_read(tmp_path: Path) -> None:
    """Ids may be numbers, blank lines are passed over, the same query may come twice."""
    path = tmp_path / "queries.jsonl"
    path.write_text(
        '{"_id": "q1", "text": "é"}\n\n{"id": 2, "text": "b", "more": 1}\n{"_id": "q1", "text": "é"}', encoding="utf-8"
    )
    assert read_queries(path) == {"q1": "é", "2": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", r"queries\.jsonl holds no queries"),
        ('{"_id": "q1"}\n', r"queries\.jsonl line 1 is no query"),
        ('{"_id": "q1", "text": "a"}\n[1]\n', "line 2 is no query"),
        ('{"_id": null, "text": "a"}\n', "line 1 is no query"),
        ('{"_id": "q1", "text": "a"}\n{"_id": \n', "line 2 .*no JSON"),
        ('{"_id": "q1", "text": "a"}\n{"_id": "q1", "text": "b"}\n', 'line 2: query "q1" has another text'),
    ],
)
def test_faults_in_queries_are_named(tmp_path: Path, text: str, message: str) -> None:
    """With file and line."""
    path = tmp_path / "queries.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ImportInvalid, match=message):
        read_queries(path)
