"""Cross-encoders by torch and by OpenVINO give the scores that sentence-transformers' CrossEncoder gives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

import lockstep
from lockstep.errors import ConfigError
from lockstep.models.rerank.local.by_openvino import OpenVINOReranker
from lockstep.models.rerank.local.by_torch import TorchReranker

QUERY = "a cat sleeps on the city"
TEXTS = [
    *("rain falls on the city and the cat", "a", "The Cat sleeps!", "snow " * 60, "sun", " the sun ", "", "é ü 123"),
    *("a cat " * n for n in range(1, 12)),
]
LONG_QUERY = "rain " * 70


def make_classifier(path: Path, source: Path, kind: str, **config: Any) -> Path:
    """A random classifier with the tokenizer of a model that is there."""
    import torch
    from transformers import AutoTokenizer, BertConfig, RobertaConfig
    from transformers import BertForSequenceClassification as Bert
    from transformers import RobertaForSequenceClassification as Roberta

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.model_max_length = 48
    tokenizer.save_pretrained(path)
    if kind == "bert":  # its class decides whether the model is told of segments
        settings = json.loads((path / "tokenizer_config.json").read_text())
        (path / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "BertTokenizer"}))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(3)
    if kind != "roberta":
        facts = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=48, num_labels=1, **sizes, **config)
        model: Any = Bert(facts)
    else:
        pad = {"pad_token_id": tokenizer.pad_token_id, "type_vocab_size": 1}
        facts = RobertaConfig(
            vocab_size=len(tokenizer), max_position_embeddings=50, num_labels=1, **sizes, **pad, **config
        )
        model = Roberta(facts)
    with torch.no_grad():  # numbers that differ from text to text
        for name, weight in model.named_parameters():
            if name.endswith("weight") and weight.ndim == 2:
                weight.mul_(100 if name.startswith("classifier") else 6)
    model.eval().save_pretrained(path)
    return path


def export(folder: Path, *, onnx: bool = False) -> None:
    """Write the classifier's graph into the folder, as exporters do."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        model.config.return_dict = False
        names = ["input_ids", "attention_mask"]
        if model.config.model_type == "bert":
            names.append("token_type_ids")
        example = {name: torch.ones((2, 7), dtype=torch.int64) for name in names} | {"input_ids": torch.full((2, 7), 5)}
        if onnx:
            (folder / "onnx").mkdir()
            axes = {name: {0: "pairs", 1: "width"} for name in names}
            torch.onnx.export(
                model,
                (example,),
                str(folder / "onnx/model.onnx"),
                input_names=names,
                output_names=["logits"],
                dynamic_axes={**axes, "logits": {0: "pairs"}},
                dynamo=False,
            )
            return
        graph = openvino.convert_model(model, example_input=example)
    for parameter, name in zip(graph.inputs, names, strict=True):
        parameter.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
        parameter.get_tensor().set_names({name})
    graph.outputs[0].get_tensor().set_names({"logits"})
    graph.validate_nodes_and_infer_types()
    openvino.save_model(graph, folder / "openvino_model.xml", compress_to_fp16=False)


def reference(folder: Path, query: str, texts: list[str]) -> np.ndarray:
    """What the package itself says."""
    from sentence_transformers import CrossEncoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        return np.asarray(model.predict([(query, text) for text in texts], show_progress_bar=False))


IDENTITY = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}


@pytest.mark.parametrize("config", [{}, IDENTITY], ids=["sigmoid", "identity"])
@pytest.mark.parametrize("kind", ["bert", "no segments", "roberta"])
def test_scores_are_those_of_the_package(kind: str, config: dict[str, str], folders: Path, tmp_path: Path) -> None:
    """By torch, and by the exported graph; short, long and empty texts, a query that is cut itself."""
    folder = make_classifier(tmp_path / "m", folders / ("roberta" if kind == "roberta" else "bert"), kind, **config)
    expected = {query: reference(folder, query, TEXTS) for query in (QUERY, LONG_QUERY)}
    assert np.ptp(expected[QUERY]) > 0.01
    by_torch = lockstep.reranker(f"local:{folder}")
    assert isinstance(by_torch.scorer, TorchReranker)
    export(folder)
    by_graph = lockstep.reranker(f"local:{folder}")
    assert isinstance(by_graph.scorer, OpenVINOReranker)
    assert by_graph.info.max_tokens == by_torch.info.max_tokens == 48
    for query, scores in expected.items():
        np.testing.assert_allclose(by_torch.rerank(query, TEXTS), scores, atol=1e-5)
        np.testing.assert_allclose(by_graph.rerank(query, TEXTS), scores, atol=1e-4)


def test_an_onnx_graph_gives_the_same(folders: Path, tmp_path: Path) -> None:
    """As other exporters write it."""
    folder = make_classifier(tmp_path / "bert", folders / "bert", "bert")
    export(folder, onnx=True)
    found = lockstep.reranker(f"local:{folder}")
    assert isinstance(found.scorer, OpenVINOReranker)
    np.testing.assert_allclose(found.rerank(QUERY, TEXTS), reference(folder, QUERY, TEXTS), atol=1e-4)


def test_what_the_package_saves_is_read(folders: Path, tmp_path: Path) -> None:
    """Its own folder, with modules.json and the name of the activation."""
    import torch
    from sentence_transformers import CrossEncoder

    plain = make_classifier(tmp_path / "plain", folders / "bert", "bert")
    folder = tmp_path / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CrossEncoder(str(plain), device="cpu", activation_fn=torch.nn.Tanh(), max_length=20).save_pretrained(
            str(folder)
        )
    expected = reference(folder, QUERY, TEXTS)
    assert expected.min() < 0 or expected.max() <= 1
    by_torch = lockstep.reranker(f"local:{folder}")
    export(folder)
    by_graph = lockstep.reranker(f"local:{folder}")
    assert isinstance(by_graph.scorer, OpenVINOReranker)
    assert by_graph.info.max_tokens == by_torch.info.max_tokens == 20
    np.testing.assert_allclose(by_torch.rerank(QUERY, TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(by_graph.rerank(QUERY, TEXTS), expected, atol=1e-4)
    with pytest.raises(ConfigError, match="is a reranker"):
        lockstep.model(f"local:{folder}")


def test_the_activation_may_be_chosen(folders: Path, tmp_path: Path) -> None:
    """By torch as by the graph."""
    folder = make_classifier(tmp_path / "bert", folders / "bert", "bert")
    bent = lockstep.reranker(f"local:{folder}").rerank(QUERY, TEXTS)
    bare = lockstep.reranker(f"local:{folder}", activation="none").rerank(QUERY, TEXTS)
    np.testing.assert_allclose(bent, 1 / (1 + np.exp(-bare)), atol=1e-5)
    export(folder)
    graph = lockstep.reranker(f"local:{folder}", activation="none").rerank(QUERY, TEXTS)
    np.testing.assert_allclose(graph, bare, atol=1e-4)


def test_damage_is_told_with_the_file(folders: Path, tmp_path: Path) -> None:
    """And what to do."""
    folder = make_classifier(tmp_path / "bert", folders / "bert", "bert")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"model\.safetensors is damaged"):
        lockstep.reranker(f"local:{folder}")


def test_embedding_models_are_no_rerankers(folders: Path) -> None:
    """They would be given a random layer."""
    for name in ("bert", "mean"):
        with pytest.raises(ConfigError, match="is an embedding model"):
            lockstep.reranker(f"local:{folders / name}")
