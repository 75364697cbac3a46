"""Every setting of a search: its limits, and what is said of a value beyond them."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

from lockstep.errors import ConfigError, QueryError, SearchStopped
from lockstep.searching.deadline import Deadline
from lockstep.searching.request import OTHERS, Request, SearchOptions
from lockstep.types import Metric

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 0}, "top_k is 0; it must be a whole number from 1 to 10000"),
    ({"top_k": 1_000_000}, "top_k is 1000000"),
    ({"top_k": True}, "top_k is True"),
    ({"top_k": 10.0}, "top_k is 10.0"),
    ({"top_k": "10"}, "top_k is '10'"),
    ({"top_k": None}, "top_k is None"),
    ({"offset": -1}, "offset is -1; it must be a whole number from 0 to 9990"),
    ({"offset": 9991}, "offset is 9991"),
    ({"offset": 1.5}, "offset is 1.5"),
    ({"mode": "vektor"}, r'no search mode "vektor"\. Did you mean "vector"'),
    ({"mode": None}, 'no search mode "None"'),
    ({"mode": ["vector"]}, "no search mode"),
    ({"aggregate": "mean"}, r'no aggregate "mean"\. Known: avg, max'),
    ({"mode": "hybrid", "fusion": "rff"}, r'no fusion "rff"\. Did you mean "rrf"'),
    ({"candidates": 0}, "candidates is 0"),
    ({"candidates": 9, "top_k": 5, "offset": 5}, "candidates is 9; it must be at least top_k with offset, 10"),
    ({"candidates": 1_000_001}, "candidates is 1000001"),
    ({"fields": {"a": -1}}, 'weight of "a" is -1; it must be a number, 0 or more'),
    ({"fields": {"a": math.inf}}, 'weight of "a" is inf'),
    ({"fields": {"a": math.nan}}, 'weight of "a" is nan'),
    ({"fields": {"a": "2"}}, "weight of \"a\" is '2'"),
    ({"fields": {"a": True}}, 'weight of "a" is True'),
    ({"fields": {"a": 0}}, "All fields have the weight 0"),
    ({"fields": {1: 2.0}}, r"fields is \{1: 2.0\}"),
    ({"fields": 5}, "fields is 5.*Give names"),
    ({"fields": [1, 2]}, r"fields is \[1, 2\]"),
    ({"fields": [["a"]]}, r"fields is \[\['a'\]\]"),
    ({"fields": b"title"}, "fields is b'title'"),
    ({"mode": "hybrid", "weights": {"vektor": 1}}, r'no part of a hybrid search "vektor"\. Did you mean "vector"'),
    ({"mode": "hybrid", "weights": {"vector": 0, "keyword": 0}}, "All weights have the weight 0"),
    ({"mode": "hybrid", "weights": [("vector", 1)]}, "Say how much each counts"),
    ({"mode": "hybrid", "weights": 0.5}, r"weights is 0.5"),
    ({"weights": {"vector": 1}}, 'weights has no effect without mode "hybrid"'),
    ({"fusion": "relative"}, 'fusion has no effect without mode "hybrid"'),
    ({"group_size": 2}, "group_size has no effect without group_by"),
    ({"group_by": "a", "group_size": 0}, "group_size is 0; it must be a whole number from 1 to 100"),
    ({"group_by": "a", "group_size": 101}, "group_size is 101"),
    ({"rerank_candidates": 100}, "rerank_candidates has no effect without rerank"),
    ({"rerank": "fake:overlap", "rerank_candidates": 0}, "rerank_candidates is 0; .* from 1 to 1000"),
    ({"rerank": "fake:overlap", "rerank_candidates": 1001}, "rerank_candidates is 1001"),
    ({"rerank": "fake:overlap", "rerank_candidates": 9}, "shown 9 documents, and top_k with offset is 10"),
    ({"rerank": "fake:overlap", "offset": 41}, r"shown 50 documents.*51\. Give rerank_candidates=51 or more"),
    ({"rerank": "fake:overlap", "top_k": 1001}, "at most 1000 documents, not 1001"),
    ({"rerank": 7}, "rerank is 7"),
    ({"diversity": 1.1}, "diversity is 1.1; it must be a number from 0 to 1"),
    ({"diversity": -0.1}, "diversity is -0.1"),
    ({"diversity": math.nan}, "diversity is nan"),
    ({"diversity": "0.5"}, "diversity is '0.5'"),
    ({"diversity": 0.5, "top_k": 1001}, "the first 1000 hits, not 1001"),
    ({"mode": "keyword", "exact": True}, 'exact is about vectors, and mode "keyword" compares none'),
    ({"mode": "keyword", "all_chunks": True}, "all_chunks is about vectors"),
    ({"mode": "keyword", "min_similarity": 0.0}, "min_similarity is about vectors"),
    ({"mode": "keyword", "diversity": 0.0}, "diversity is about vectors"),
    ({"mode": "keyword", "aggregate": "avg"}, "aggregate is about vectors"),
    ({"topk": 5}, r'no search option "topk"\. Did you mean "top_k"'),
    ({"timeout": 5}, r'no search option "timeout"\. Did you mean "timeout_s"'),
    ({"min_similarty": 5}, 'Did you mean "min_similarity"'),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_what_is_not_allowed_is_refused_with_what_is(given: dict[str, Any], message: str) -> None:
    """Whatever type it is of; nothing is looked at before."""
    with pytest.raises(QueryError, match=message):
        Request.create(**given)


def test_what_is_allowed_to_the_border() -> None:
    """Limits are part of what is allowed."""
    assert Request.create(top_k=10_000).depth == 10_000
    assert Request.create(top_k=1, offset=9999).depth == 10_000
    assert Request.create(top_k=5, offset=5, candidates=10).candidates == 10
    assert Request.create(rerank="x:y", offset=40).rerank_size == 50
    assert Request.create(rerank="x:y", top_k=80).rerank_size == 80
    assert Request.create(rerank="x:y", rerank_candidates=1000, offset=990).rerank_size == 1000
    assert Request.create(diversity=np.float32(0.5), top_k=1000).diversity == 0.5


def test_fields_without_weights_count_alike() -> None:
    """One, several, in any container; what counts nothing is left out."""
    assert Request.create(fields="title").fields == {"title": 1.0}
    for given in (["a", "b"], ("a", "b"), dict.fromkeys("ab"), np.array(["a", "b"])):
        if not isinstance(given, dict):
            assert Request.create(fields=given).fields == {"a": 1.0, "b": 1.0}
            assert not Request.create(fields=given).whole_documents
    assert Request.create(fields=None).fields == Request.create(fields=[]).fields == {}
    weighed = Request.create(fields={"a": 2, "b": 0, "c": 1})
    assert weighed.fields == {"a": 2, "c": 1}
    assert weighed.weighs_fields
    assert not Request.create(fields={"a": 2, "b": 0}).weighs_fields


@pytest.mark.parametrize("path", ["", "a..b", "a[0]", "[]"])
def test_a_group_is_named_by_a_path(path: str) -> None:
    """Said before anything is read."""
    with pytest.raises(ConfigError, match="is wrong at character"):
        Request.create(group_by=path)


@pytest.mark.parametrize(
    ("metric", "allowed", "refused"),
    [
        ("cosine", [-1, 0, 1, np.float32(0.5)], [-1.01, 1.01, math.nan, math.inf, "0.5", True]),
        ("dot", [-1e9, 0, 1e9], [math.nan, "1"]),
        ("euclidean", [0, 1], [-0.01, 1.01]),
    ],
)
def test_a_smallest_similarity_is_one_of_the_metric(metric: Metric, allowed: list[Any], refused: list[Any]) -> None:
    """A threshold that no hit can pass, or that all pass, is a mistake."""
    for value in allowed:
        Request.create(min_similarity=value).check_metric(metric)
    for value in refused:
        with pytest.raises(QueryError, match=rf"min_similarity is .*; with the metric {metric} it is from"):
            Request.create(min_similarity=value).check_metric(metric)


def test_every_option_has_a_place() -> None:
    """What `SearchOptions` promises, a request takes, or it takes a query's place, or ends a search."""
    for name in SearchOptions.__annotations__:
        assert name in Request.__dataclass_fields__ or name in OTHERS


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e6, "5", True])
def test_a_deadline_is_some_seconds_away(seconds: Any) -> None:
    """And not more than a day."""
    with pytest.raises(QueryError, match=r"timeout_s is .*; it must be more than 0, and at most 86400"):
        Deadline(seconds)


def test_whoever_waits_is_told_why_it_ended() -> None:
    """A deadline, a stop, or the work's own error."""
    with pytest.raises(QueryError, match=r"stop is of type str\. Give a threading.Event"):
        Deadline(stop="now")  # type: ignore[arg-type]
    stop, hangs = threading.Event(), threading.Event()
    deadline = Deadline(stop=stop)
    assert deadline.is_set
    assert not deadline.is_over()
    assert deadline.wait_for(lambda: 5) == 5
    stop.set()
    with pytest.raises(SearchStopped, match="cancelled"):
        deadline.wait_for(hangs.wait)
    with pytest.raises(SearchStopped, match=r"longer than 0\.01 seconds.*timeout_s"):
        Deadline(0.01).wait_for(hangs.wait)
    hangs.set()

    def fails() -> None:
        raise TimeoutError("its own")

    for each in (Deadline(), Deadline(50)):
        with pytest.raises(TimeoutError, match="its own"):
            each.wait_for(fails)
