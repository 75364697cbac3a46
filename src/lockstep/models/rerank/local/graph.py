"""Makes one graph of a cross-encoder: token ids of pairs and lengths in, one number for each pair out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as op

from lockstep.errors import ConfigError
from lockstep.models.rerank.local.pairs import SECOND

LOGITS = "logits"


def pair_graph(model: Any, path: Path, uri: str) -> Any:
    """The graph of a whole cross-encoder.

    Args:
        model: the user's, as `models.local.graph.read_graph` gives it; it is taken apart.
        path: its folder, for messages.
        uri: of the reranker, for messages.

    Returns:
        An `openvino.Model` with inputs `ids`, int32 (pairs, width), which have `SECOND` added where the second segment is,
        and `lengths`, int32 (pairs,); one output `vectors`, float32 (pairs, 1).

    Raises:
        ConfigError: the graph wants an input that is none of a cross-encoder's, or does not give one number for each pair.
    """
    ids = op.parameter([-1, -1], np.int32, name="ids")
    lengths = op.parameter([-1], np.int32, name="lengths")
    _connect(model, ids, lengths, path)
    scores = op.convert(_output(model, uri), "f32")
    whole = openvino.Model([op.result(scores)], [ids, lengths], "cross_encoder")
    whole.outputs[0].get_tensor().set_names({"vectors"})
    whole.validate_nodes_and_infer_types()
    return whole


def _connect(model: Any, ids: Any, lengths: Any, path: Path) -> None:
    """Feed the inputs that a cross-encoder may have from ours."""
    shape = op.shape_of(ids, "i32")
    width = op.gather(shape, _constant(1), _constant(0))
    positions = op.unsqueeze(op.range(_constant(0), width, _constant(1), "i32"), _constant(0))
    segment = op.convert(op.greater_equal(ids, _constant(SECOND)), "i32")
    feeds = {
        "input_ids": lambda: op.subtract(ids, op.multiply(segment, _constant(SECOND))),
        "attention_mask": lambda: op.less(positions, op.unsqueeze(lengths, _constant(1))),
        "token_type_ids": lambda: segment,
        "position_ids": lambda: op.broadcast(positions, shape),
    }
    for parameter in model.get_parameters():
        names = parameter.output(0).get_names() | {parameter.get_friendly_name()}
        name = next((name for name in names if name in feeds), None)
        if name is None:
            raise ConfigError(
                f"The graph in {path} wants an input {'/'.join(sorted(names))}, and is no cross-encoder that is known.",
                "Export it with the inputs input_ids, attention_mask and token_type_ids, or use ?runtime=torch.",
            )
        feed = op.convert(feeds[name](), parameter.get_element_type().get_type_name())
        for target in parameter.output(0).get_target_inputs():
            target.replace_source_output(feed.output(0))


def _output(model: Any, uri: str) -> Any:
    """The output with one number for each pair."""
    found = {name: output for output in model.outputs for name in output.get_names() or {str(output.index)}}
    chosen = found.get(LOGITS, model.outputs[0])
    shape = chosen.get_partial_shape()
    if shape.rank.is_static and shape.rank.get_length() == 2 and shape[1].is_static and shape[1].get_length() == 1:
        return chosen.get_node().input_value(0)
    raise ConfigError(
        f'The graph of "{uri}" gives {", ".join(found) or "nothing"} of shape {shape}, not one number for each pair.',
        "A cross-encoder has one label; an embedding model is no reranker.",
    )


def _constant(value: int) -> Any:
    return op.constant(np.array(value, np.int32))
