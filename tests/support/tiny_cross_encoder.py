"""A tiny cross-encoder with random weights, as an ONNX folder, and what it computes.

The number depends on each token, its segment and its place, so that a wrong type, a counted padding or a lost token shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from support.tiny_onnx import WORDS, write

LONGEST = 16
RANDOM = np.random.default_rng(11)
OWN = RANDOM.normal(size=(len(WORDS), 1)).astype(np.float32)
SEGMENT = RANDOM.normal(size=(2, 1)).astype(np.float32)


def logit(ids: Sequence[int], types: Sequence[int]) -> float:
    """What the graph computes for one pair without padding."""
    own = OWN[list(ids), 0].astype(np.float64) * (1 + SEGMENT[list(types), 0])
    return float(np.tanh(own).sum())


def pair(query: Sequence[int], text: Sequence[int]) -> float:
    """The same for the ids of a query and a text: [CLS] query [SEP] text [SEP]."""
    ids = [2, *query, 3, *text, 3]
    return logit(ids, [0] * (len(query) + 2) + [1] * (len(text) + 1))


def write_graph(path: Path, labels: int = 1) -> None:
    """The graph as ONNX, with int64 inputs as exporters make them."""
    constants: dict[str, npt.NDArray[Any]] = {
        "words": OWN,
        "segments": SEGMENT,
        "one": np.ones(1, np.float32),
        "first": np.array([1]),
        "last": np.array([2]),
        "out": np.ones((1, labels), np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["word"]),
        helper.make_node("Gather", ["segments", "token_type_ids"], ["segment"]),
        helper.make_node("Add", ["segment", "one"], ["factor"]),
        helper.make_node("Mul", ["word", "factor"], ["own"]),
        helper.make_node("Tanh", ["own"], ["bent"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["bent", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "out"], ["logits"]),
    ]
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(each, TensorProto.INT64, ["pairs", "width"]) for each in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs", labels])],
        [numpy_helper.from_array(array, each) for each, array in constants.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def make_folder(path: Path, *, labels: int = 1, **config: Any) -> Path:
    """A Transformers folder of a BERT classifier with a graph, whose pairs have at most 16 tokens."""
    path.mkdir(parents=True)
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    names = {str(number): f"LABEL_{number}" for number in range(labels)}
    facts = {"architectures": ["BertForSequenceClassification"], "id2label": names, "pad_token_id": 0}
    write(path / "config.json", {**facts, "max_position_embeddings": LONGEST, **config})
    write(path / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 64})
    write_graph(path / "onnx/model.onnx", labels)
    return path
