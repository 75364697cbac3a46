"""Cross-encoders that run on this machine: from the Hugging Face hub, or a folder.

local:cross-encoder/ms-marco-MiniLM-L6-v2@revision     downloaded once, by `lockstep models download`
local:./my-reranker                                    sentence-transformers, Transformers, ONNX or OpenVINO
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from lockstep.errors import ConfigError, UnknownName
from lockstep.models import catalogue, hub
from lockstep.models.local import folder_of, is_folder, snapshot, wants_torch
from lockstep.models.local.card import read_card
from lockstep.models.local.cross_encoder import is_cross_encoder
from lockstep.models.local.folder import need_torch
from lockstep.models.local.options import LocalOptions
from lockstep.models.local.shipped import KNOWN
from lockstep.models.rerank import not_a_reranker
from lockstep.models.rerank.base import RerankerInfo, Scorer
from lockstep.models.rerank.local.folder import CrossEncoderFolder, read_cross_encoder
from lockstep.models.uri import ModelURI

CROSS_ENCODERS = (
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ms-marco-MiniLM-L12-v2",
    "cross-encoder/ms-marco-TinyBERT-L2-v2",
    "BAAI/bge-reranker-base",
    "BAAI/bge-reranker-v2-m3",
    "mixedbread-ai/mxbai-rerank-xsmall-v1",
    "jinaai/jina-reranker-v1-tiny-en",
)
"""Well-known ones on the hub, to find what somebody meant; any other may be named as well."""
OPTIONS = ("threads", "file", "runtime", "device", "dtype", "trust_remote_code", "activation")
USUAL = f"Take a cross-encoder, such as local:{CROSS_ENCODERS[0]}."


@dataclass(frozen=True, slots=True)
class Chosen:
    """A URI's options, checked."""

    local: LocalOptions
    activation: str | None
    """"sigmoid" or "none", instead of the model's own."""

    @classmethod
    def of(cls, uri: ModelURI) -> Chosen:
        """Read a URI's options.

        Raises:
            UnknownName: there is no such option.
            ConfigError: a value is wrong.
        """
        uri.allow(*OPTIONS)
        rest = {name: value for name, value in uri.options.items() if name != "activation"}
        return cls(LocalOptions.of(replace(uri, options=rest)), uri.choice("activation", ("sigmoid", "none")))


def open_local(uri: ModelURI, *, download: bool = False) -> Scorer:
    """Open a cross-encoder on this machine.

    Args:
        uri: its hub id or folder; options: `threads`, `file`, `runtime`, `device`, `dtype`, `trust_remote_code` as models
            have them, and `activation=sigmoid` or `none`.
        download: fetch it from the hub when it is not here.

    Raises:
        UnknownName: no reranker has this name, or an option is unknown.
        ConfigError: it is an embedding model, it is not here, an option is wrong, or a file is missing or damaged.
        MissingExtra: it needs torch, which is not installed.
        ProviderUnavailable: it could not be downloaded.
    """
    chosen = Chosen.of(uri)
    name = f"{uri.provider}:{uri.name}"
    if is_folder(uri.name):
        return _open_folder(RerankerInfo(uri=name), folder_of(uri.name), chosen)
    _check_name(uri.name, name)
    found = snapshot(uri, chosen.local, download=download)
    return _open_folder(RerankerInfo(uri=name, revision=found.revision), found.folder, chosen)


def download_reranker(uri: ModelURI) -> RerankerInfo | None:
    """Bring a model from the hub; the facts of it, once opened, if it is a cross-encoder, and None if it is something else.

    Raises:
        LockstepError: as `open_local`.
    """
    if uri.provider != "local" or uri.name in KNOWN or "/" not in uri.name:
        return None
    if is_folder(uri.name):
        is_one = is_cross_encoder(folder_of(uri.name))
    else:
        # Options that only embedding models have do not say which files there are to bring.
        bare = replace(uri, options={name: value for name, value in uri.options.items() if name in ("file", "runtime")})
        is_one = is_cross_encoder(snapshot(bare, LocalOptions.of(bare), download=True).folder)
    return open_local(uri).info if is_one else None


def _check_name(name: str, uri: str) -> None:
    """Refuse names that are no reranker's for sure, before anything is fetched.

    Raises:
        ConfigError: it is a known embedding model.
        UnknownName: it is no name of the hub's.
    """
    if name in KNOWN or ("/" in name and catalogue.lookup(hub.HubName.parse(name).repo)):
        raise not_a_reranker(uri, USUAL)
    if "/" not in name:
        unknown = UnknownName("local reranker", name, [each.rpartition("/")[2] for each in CROSS_ENCODERS])
        near = unknown.hint.removeprefix('Did you mean "').removesuffix('"?')
        full = next((each for each in CROSS_ENCODERS if each.rpartition("/")[2] == near), "")
        unknown.hint = (
            f'Did you mean "local:{full}"?'
            if full
            else f"Name its hub id or folder, such as local:{CROSS_ENCODERS[0]}."
        )
        raise unknown


def _open_folder(info: RerankerInfo, path: Path, chosen: Chosen) -> Scorer:
    folder = read_cross_encoder(path, info.uri, chosen.local.file)
    card = read_card(path)
    info = replace(info, languages=card.languages, licence=card.licence or "", description="A cross-encoder.")
    if _by_torch(folder, info.uri, chosen):
        from lockstep.models.rerank.local.by_torch import TorchReranker

        return TorchReranker(info, path, chosen.activation, chosen.local)
    from lockstep.models.rerank.local.by_openvino import OpenVINOReranker

    return OpenVINOReranker(info, folder, chosen.activation or folder.activation, chosen.local.threads)


def _by_torch(folder: CrossEncoderFolder, uri: str, chosen: Chosen) -> bool:
    """Whether torch is to run it.

    Raises:
        ConfigError: OpenVINO is asked for and cannot.
        MissingExtra: only torch can, and it is not installed.
    """
    # A score that is wanted as it is needs none of torch's functions.
    reason = "" if chosen.activation and folder.torch_only.startswith("its scores") else folder.torch_only
    if not (wants_torch(chosen.local) or folder.files.graph is None or reason):
        return False
    if chosen.local.runtime == "openvino":
        raise ConfigError(
            f'OpenVINO cannot run reranker "{uri}": {reason or "it has no graph"}.',
            "Leave out ?runtime=openvino, or export it to ONNX or OpenVINO.",
        )
    if find_spec("sentence_transformers") is None:
        raise need_torch(replace(folder.files, torch_only=reason), uri)
    return True
