"""One suite over every provider and every fake: what `Provider` promises, each of them keeps."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import lockstep
from lockstep.errors import BadEmbedding, ConfigError, LockstepError, TextsCut, TextTooLong, UnknownName
from lockstep.models import PROVIDERS
from lockstep.models.base import Model, Provider
from lockstep.testing import HashModel
from lockstep.types import ModelInfo, Tokens

URIS = [
    "local:minilm",
    "local:bge-micro-v2",
    "local:minilm?dimensions=64",
    "fake:hash?dimensions=48",
    "python:support.embedding_functions:embed",
]
TEXTS = ["rain", "Es regnet.", "雨が降る", "a longer text about the weather, " * 20, "🌧️", "", "tab\tand\nline"]


@pytest.fixture(scope="module", params=URIS)
def model(request: pytest.FixtureRequest) -> Model:
    return lockstep.model(request.param)


def test_every_provider_is_in_this_suite() -> None:
    """A provider that is added to the table is added here, or this fails; `premade` embeds nothing."""
    assert {uri.partition(":")[0] for uri in URIS} == set(PROVIDERS) - {"premade"}


def test_vectors_have_the_promised_shape_and_type(model: Model) -> None:
    """float32, one row per text, as many columns as the model says."""
    vectors = model.embed_documents(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), model.info.dimensions)
    assert np.isfinite(vectors).all()


def test_no_texts_give_no_vectors(model: Model) -> None:
    """An empty list is no error, and its matrix has the right width."""
    assert model.embed_documents([]).shape == (0, model.info.dimensions)


def test_rows_come_in_the_order_of_the_texts(model: Model) -> None:
    """Whatever batches a provider packs, row i is text i, and batch-mates do not change it."""
    together = model.embed_documents(TEXTS)
    alone = np.concatenate([model.embed_documents([text]) for text in TEXTS])
    assert np.diag(model.similarity(together, alone)).min() > 0.9999


def test_equal_texts_have_equal_vectors(model: Model) -> None:
    """What the cache rests on."""
    first, second = model.embed_documents(["the same", "other", "the same"])[[0, 2]]
    assert np.dot(first, second) / (np.linalg.norm(first) * np.linalg.norm(second)) > 0.9999


def test_token_ids_of_the_model_give_the_vectors_of_the_text(model: Model) -> None:
    """A text is tokenised once: the chunker's tokens may be handed on."""
    tokens = [found.ids for found in model.tokenizer.encode(TEXTS)]
    given = model.embed_documents(TEXTS, tokens=tokens)
    assert np.diag(model.similarity(given, model.embed_documents(TEXTS))).min() > 0.9999


def test_the_bound_on_tokens_holds(model: Model) -> None:
    """A text that the bound lets through is never too long."""
    tokens = model.tokenizer.encode(TEXTS)
    assert all(len(found.ids) <= model.tokenizer.tokens_max(text) for found, text in zip(tokens, TEXTS, strict=True))


def test_several_threads_may_embed_at_once(model: Model) -> None:
    """A sync and a search share one model."""
    expected = model.embed_documents(TEXTS)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(model.embed_documents(TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.diag(model.similarity(expected, vectors)).min() > 0.9999 for vectors in found)


def test_a_text_instead_of_a_list_is_refused(model: Model) -> None:
    """A string is a sequence of texts to Python, and never what was meant."""
    with pytest.raises(ConfigError, match="not one text"):
        model.embed_documents("rain")


def test_token_counts_are_those_of_the_tokens(model: Model) -> None:
    """Without the special ones, whatever the length; of nothing, nothing."""
    assert model.count_tokens(TEXTS) == [len(found.ids) for found in model.tokenizer.encode(TEXTS)]
    assert model.count_tokens([]) == []


def test_a_text_of_ten_megabytes_is_refused_or_cut(model: Model) -> None:
    """With exact numbers where the model's own tokenizer is here."""
    huge = "word " * 2_000_000
    if model.tokenizer.exact:
        limit = model.text_tokens_max()
        with pytest.raises(TextTooLong, match=f"Text 1 has 2000000 tokens, and .* takes {limit}") as caught:
            model.embed_documents(["rain", huge])
        assert caught.value.tokens == 2_000_000
        with pytest.warns(TextsCut, match=f"{2_000_000 - limit} tokens were cut off"):
            cut = model.embed_documents(["rain", huge], truncate="end")
        assert model.similarity(cut[1:], model.embed_documents(["word " * limit]))[0, 0] > 0.9999
    assert model.embed_documents([huge[:500]]).shape == (1, model.info.dimensions)


def test_a_policy_that_does_not_exist_is_refused(model: Model) -> None:
    """Before anything is embedded."""
    with pytest.raises(ConfigError, match="truncate is 'start'"):
        model.embed_documents(["rain"], truncate="start")  # type: ignore[arg-type]


def test_a_model_of_texts_takes_no_images(model: Model) -> None:
    """And says which kind does."""
    with pytest.raises(ConfigError, match="takes texts only"):
        model.embed_images([b"\x89PNG\r\n\x1a\n"])


def test_a_users_prompts_go_before_the_texts(model: Model) -> None:
    """Every provider takes them; they are part of what the vectors depend on."""
    prompted = lockstep.model(model.uri, query_prompt="find: ", document_prompt="this is: ")
    assert (prompted.info.query_prompt, prompted.info.document_prompt) == ("find: ", "this is: ")
    found = prompted.embed_queries(["rain"]), prompted.embed_documents(["rain"])
    expected = model.embed_queries(["find: rain"]), model.embed_documents(["this is: rain"])
    for left, right in zip(found, expected, strict=True):
        assert model.similarity(left, right)[0, 0] > 0.9999
    assert len({prompted.identity, model.identity, lockstep.model(model.uri, query_prompt="find: ").identity}) == 3


def test_something_that_is_no_text_is_refused_by_its_place(model: Model) -> None:
    """The error says which."""
    with pytest.raises(ConfigError, match="Text 1 is of type NoneType"):
        model.embed_documents(["rain", None])  # type: ignore[list-item]


class Wrong:
    """A provider that answers with whatever it is given."""

    def __init__(self, answer: np.ndarray) -> None:
        self.answer = answer
        self.info = ModelInfo(uri="test:wrong", dimensions=4, max_tokens=8)
        self.identity = "test:wrong"
        self.tokenizer = HashModel().tokenizer

    def embed(self, texts: object, kind: object, tokens: object = None) -> np.ndarray:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        (np.ones((1, 4), np.float32), ()),
        (np.ones((2, 3), np.float32), ()),
        (np.array([[1, 1, 1, 1], [1, np.nan, 1, 1]], np.float32), (1,)),
        (np.array([[np.inf, 1, 1, 1], [1, 1, 1, 1]], np.float32), (0,)),
        (np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32), (0,)),
    ],
    ids=["too few", "too short", "nan", "infinite", "zero"],
)
def test_bad_vectors_never_get_past_the_model(answer: np.ndarray, rows: tuple[int, ...]) -> None:
    """Promise 7: no vector of wrong length, with NaN, infinity or zero norm."""
    with pytest.raises(BadEmbedding) as caught:
        Model("test:wrong", Wrong(answer)).embed_documents(["a", "b"])
    assert caught.value.rows == rows


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("minilm", "is not a model"),
        ("local:", "is not a model"),
        ("loca:minilm", 'Did you mean "local"'),
        ("local:minilmm", 'Did you mean "minilm"'),
        ("local:all-MiniLM-L6-v2", 'Did you mean "local:sentence-transformers/all-MiniLM-L6-v2"'),
        ("local:somethingelse", "local:org/name, or their folder, local:./folder"),
        ("local:./nothing", "There is no model folder"),
        ("local:a/b/c", "hub"),
        ("local:minilm?dimensions=385", "has 384 dimensions, and 385 are asked for"),
        ("local:minilm?pooling=cls", "ships as it is"),
        ("local:minilm?normalise=yes", "There is no value of the model option normalise"),
        ("fake:hash?dimension=3", 'Did you mean "dimensions"'),
        ("fake:hash?dimensions=x", "not a whole number"),
        ("fake:hash?dimensions=0", "not a whole number"),
        ("fake:hash?dimensions=3&dimensions=4", "twice"),
    ],
)
def test_a_wrong_uri_says_what_would_be_right(uri: str, problem: str) -> None:
    """A typo costs one look at the message."""
    with pytest.raises(LockstepError, match=problem.replace("?", r"\?")):
        lockstep.model(uri)


def test_a_providers_object_can_stand_in_for_a_uri() -> None:
    """Users bring their own model, and tests their fakes."""
    provider = HashModel(dimensions=8)
    assert isinstance(provider, Provider)
    with pytest.raises(UnknownName):
        lockstep.model("mine:model")


def test_tokens_lie_where_they_say(model: Model) -> None:
    """Offsets are characters of the text, ascending."""
    for text, tokens in zip(TEXTS, model.tokenizer.encode(TEXTS), strict=True):
        assert isinstance(tokens, Tokens)
        assert (tokens.starts < tokens.ends).all()
        assert (np.diff(tokens.starts) >= 0).all()
        assert len(text) >= (tokens.ends.max() if len(tokens.ends) else 0)
