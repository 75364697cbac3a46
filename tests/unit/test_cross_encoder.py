"""Cross-encoders on this machine: what a folder says, how a pair is cut, which scores come out; without torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

import lockstep
from lockstep.errors import ConfigError, UnknownName
from lockstep.models.rerank.local.by_openvino import OpenVINOReranker, sigmoid
from lockstep.models.rerank.local.pairs import SECOND, kept, template_of
from support import tiny_onnx
from support.tiny_cross_encoder import logit, make_folder, pair, write_graph
from support.tiny_onnx import write

RAIN, WARM, COAT, TAX, LAW = range(5, 10)  # ids of WORDS
TEXTS = ["tax law", "warm coat", "rain", "rain rain warm coat law", ""]
IDS = [[TAX, LAW], [WARM, COAT], [RAIN], [RAIN, RAIN, WARM, COAT, LAW], []]


def logits(query: list[int], texts: list[list[int]]) -> np.ndarray:
    return np.array([pair(query, text) for text in texts])


def test_scores_are_those_of_the_graph(tmp_path: Path) -> None:
    """Each pair with its segments, whatever it is padded to; between 0 and 1 unless the model says otherwise."""
    reranker = lockstep.reranker(f"local:{make_folder(tmp_path / 'm')}")
    assert isinstance(reranker.scorer, OpenVINOReranker)
    found = reranker.ask("warm rain", TEXTS)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-logits([WARM, RAIN], IDS))), atol=1e-5)
    assert (found.usage.texts, found.usage.tokens, found.usage.requests) == (5, 0, 0)
    alone = np.concatenate([reranker.rerank("warm rain", [text]) for text in TEXTS])
    np.testing.assert_allclose(alone, found.scores, atol=1e-6)
    assert reranker.info.local
    assert reranker.info.max_tokens == 16


@pytest.mark.parametrize(
    "config",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.1"}},
        {
            "sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid",
            "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
        },
    ],
)
def test_a_model_says_what_becomes_of_its_number(config: dict[str, Any], tmp_path: Path) -> None:
    """In any of the places where sentence-transformers kept it; the URI may say otherwise."""
    folder = make_folder(tmp_path / "m", **config)
    expected = logits([WARM], IDS)
    np.testing.assert_allclose(lockstep.reranker(f"local:{folder}").rerank("warm", TEXTS), expected, atol=1e-5)
    bent = lockstep.reranker(f"local:{folder}", activation="sigmoid").rerank("warm", TEXTS)
    np.testing.assert_allclose(bent, 1 / (1 + np.exp(-expected)), atol=1e-5)


def test_an_unknown_function_is_torchs_unless_none_is_wanted(tmp_path: Path) -> None:
    """It is not left out silently."""
    folder = make_folder(tmp_path / "m", sbert_ce_default_activation_function="torch.nn.modules.activation.Softplus")
    with pytest.raises(ConfigError, match="its scores go through Softplus"):
        lockstep.reranker(f"local:{folder}", runtime="openvino")
    found = lockstep.reranker(f"local:{folder}", activation="none", runtime="openvino").rerank("warm", TEXTS)
    np.testing.assert_allclose(found, logits([WARM], IDS), atol=1e-5)


def test_a_long_text_loses_its_end_and_the_query_stays_whole(tmp_path: Path) -> None:
    """16 tokens are 3 special ones, the query and what is left."""
    reranker = lockstep.reranker(f"local:{make_folder(tmp_path / 'm')}", activation="none")
    text = [RAIN, WARM, COAT, TAX, LAW] * 100
    words = " ".join(tiny_onnx.WORDS[number] for number in text)
    np.testing.assert_allclose(reranker.rerank("warm coat", [words]), [pair([WARM, COAT], text[:11])], atol=1e-5)
    # A query that is longer than half: both keep as many.
    query = [TAX] * 50
    np.testing.assert_allclose(reranker.rerank(" ".join(["tax"] * 50), [words]), [pair(query[:6], text[:7])], atol=1e-5)


def test_many_texts_come_out_in_their_order(tmp_path: Path) -> None:
    """Batches are by length; several threads may ask."""
    reranker = lockstep.reranker(f"local:{make_folder(tmp_path / 'm')}", activation="none")
    random = np.random.default_rng(5)
    ids = [random.integers(RAIN, LAW + 1, size=random.integers(1, 12)).tolist() for _ in range(300)]
    texts = [" ".join(tiny_onnx.WORDS[number] for number in each) for each in ids]
    expected = logits([COAT], ids)
    found: list[bool] = []

    def ask(count: int) -> None:
        found.append(bool(np.allclose(reranker.rerank("coat", texts[:count]), expected[:count], atol=1e-4)))

    threads = [threading.Thread(target=ask, args=(count,)) for count in (300, 1, 20, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_a_folder_of_another_kind_is_told(tmp_path: Path) -> None:
    """An embedding model, a classifier of several labels, and each way round."""
    embeds = tiny_onnx.make_folder(tmp_path / "embeds")
    with pytest.raises(ConfigError, match="is an embedding model, no reranker"):
        lockstep.reranker(f"local:{embeds}")
    with pytest.raises(ConfigError, match="a classifier with 3 labels"):
        lockstep.reranker(f"local:{make_folder(tmp_path / 'three', labels=3)}")
    ranks = make_folder(tmp_path / "ranks")
    with pytest.raises(ConfigError, match="is a reranker, which gives no vectors"):
        lockstep.model(f"local:{ranks}")


def test_newer_folders_say_that_they_are_cross_encoders(tmp_path: Path) -> None:
    """sentence-transformers writes modules.json and a type since its fifth version."""
    folder = make_folder(tmp_path / "m")
    write(folder / "modules.json", [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}])
    facts = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    write(folder / "config_sentence_transformers.json", facts)
    found = lockstep.reranker(f"local:{folder}").rerank("warm", TEXTS)
    np.testing.assert_allclose(found, logits([WARM], IDS), atol=1e-5)
    with pytest.raises(ConfigError, match="is a reranker"):
        lockstep.model(f"local:{folder}")


def test_a_graph_without_a_configuration_tells_by_its_output(tmp_path: Path) -> None:
    """One number for each pair is a reranker's."""
    good = make_folder(tmp_path / "good")
    (good / "config.json").unlink()
    found = lockstep.reranker(f"local:{good}").rerank("warm", TEXTS)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits([WARM], IDS))), atol=1e-5)
    bad = make_folder(tmp_path / "bad")
    (bad / "config.json").unlink()
    write_graph(bad / "onnx/model.onnx", labels=2)
    with pytest.raises(ConfigError, match="not one number for each pair"):
        lockstep.reranker(f"local:{bad}")


def test_options_are_checked(tmp_path: Path) -> None:
    """What only embedding models have is none of them."""
    folder = make_folder(tmp_path / "m")
    with pytest.raises(UnknownName, match="option of local"):
        lockstep.reranker(f"local:{folder}", pooling="mean")
    with pytest.raises(UnknownName, match="activation"):
        lockstep.reranker(f"local:{folder}", activation="tanh")
    with pytest.raises(ConfigError, match=r'no graph "other\.onnx"'):
        lockstep.reranker(f"local:{folder}", file="other.onnx")


def test_a_sigmoid_does_not_overflow() -> None:
    """However sure a model is."""
    with np.errstate(all="raise"):
        found = sigmoid(np.array([-1e4, -2, 0, 2, 1e4], np.float32))
    np.testing.assert_allclose(found, [0, 0.1192029, 0.5, 0.8807971, 1], atol=1e-6)


def words_tokenizer() -> Any:
    library = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="a"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return library


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_pair_is_cut_as_the_tokenizers_library_cuts_it(first: int, second: int, room: int) -> None:
    """Longest first, to the token; so scores are those of sentence-transformers."""
    library = words_tokenizer()
    library.enable_truncation(room + 3, strategy="longest_first")
    cut = library.encode(" ".join("a" * first), " ".join("b" * second)).ids
    assert kept(first, second, room) == (cut.count(0), cut.count(1))


def test_what_is_put_around_a_pair_is_found_by_trying() -> None:
    """BERT marks the second segment; RoBERTa has two tokens between and no segments."""
    bert = template_of(words_tokenizer())
    assert (bert.before, bert.between, bert.after) == ((2,), (3,), (3 + SECOND,))
    assert (bert.query_offset, bert.text_offset, bert.total) == (0, SECOND, 3)
    library = words_tokenizer()
    library.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    roberta = template_of(library)
    assert (roberta.before, roberta.between, roberta.after) == ((2,), (3, 3), (3,))
    assert (roberta.query_offset, roberta.text_offset) == (0, 0)


@pytest.mark.parametrize(
    ("config", "segments"),
    [
        ({}, True),
        ({"tokenizer_class": "BertTokenizer"}, True),
        ({"tokenizer_class": "TokenizersBackend"}, False),
        ({"tokenizer_class": "TokenizersBackend", "model_input_names": ["input_ids", "token_type_ids"]}, True),
        ({"tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids"]}, False),
    ],
)
def test_a_tokenizer_says_whether_there_are_segments(config: dict[str, Any], segments: bool, tmp_path: Path) -> None:
    """As Transformers would tell the model, or not."""
    folder = make_folder(tmp_path / "m")
    write(folder / "tokenizer_config.json", {"do_lower_case": True, **config})
    found = lockstep.reranker(f"local:{folder}", activation="none").rerank("warm", ["rain"])
    expected = logit([2, WARM, 3, RAIN, 3], [0, 0, 0, 1, 1] if segments else [0] * 5)
    np.testing.assert_allclose(found, [expected], atol=1e-5)
