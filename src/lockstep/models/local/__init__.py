"""Models that run on this machine: those that ship with the package, and any that a user brings.

local:minilm                              ships with the package
local:intfloat/e5-small-v2@revision       from the Hugging Face hub, downloaded once
local:./my-model                          a folder: sentence-transformers, Transformers, ONNX or OpenVINO
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from lockstep.errors import ConfigError, UnknownName
from lockstep.models import catalogue, hub
from lockstep.models.base import Provider
from lockstep.models.local.card import read_card
from lockstep.models.local.cross_encoder import is_cross_encoder, not_a_model
from lockstep.models.local.folder import choose_graph, companions, fingerprint, need_torch, read_folder
from lockstep.models.local.options import LocalOptions
from lockstep.models.local.shipped import KNOWN
from lockstep.models.uri import ModelURI
from lockstep.types import ModelInfo

UNKNOWN = ModelInfo(uri="", dimensions=0, max_tokens=0)
"""Of a model of which nothing is known yet; its files tell the rest."""
SMALL_FILES = (".json", ".txt", ".md", ".model")


def open_local(uri: ModelURI, *, download: bool = True) -> Provider:
    """Open a model on this machine.

    Args:
        uri: its name or folder, and options (`LocalOptions`).
        download: fetch it from the hub when it is not here.

    Raises:
        UnknownName: no model has this name, or an option is unknown.
        ConfigError: an option's value is wrong, a file of the model is missing or damaged, or it is not here.
        MissingExtra: it needs torch, which is not installed.
        ProviderUnavailable: it could not be downloaded.
    """
    options = LocalOptions.of(uri)
    name = f"{uri.provider}:{uri.name}"
    if uri.name in KNOWN:
        from lockstep.models.local.openvino_model import open_shipped

        return open_shipped(uri.name, options)
    if is_folder(uri.name):
        return _open_folder(replace(UNKNOWN, uri=name), folder_of(uri.name), options, None)
    found = snapshot(uri, options, download=download)
    entry = catalogue.lookup(hub.HubName.parse(uri.name).repo)
    known = entry.info() if entry else UNKNOWN
    info = replace(known, uri=name, revision=found.revision)
    return _open_folder(info, found.folder, options, f"local:{name_of(found, uri)}")


def is_folder(name: str) -> bool:
    """Whether a model's name is a path."""
    return name.startswith(("/", "./", "../", "~", ".\\", "..\\")) or name in (".", "..") or Path(name).is_dir()


def wanted_files(names: Sequence[str], options: LocalOptions) -> list[str]:
    """Which of a repository's files are needed to run its model: the small ones, and one form of its weights.

    None when it has no weights.

    Raises:
        ConfigError: the graph that is asked for is not among them.
    """
    graph = None if wants_torch(options) else choose_graph(names, options.file)
    small = [name for name in names if name.endswith(SMALL_FILES) and name.count("/") <= 1]
    layers = [name for name in names if name[:1].isdigit() and name.endswith(".safetensors")]
    if graph:
        weights = [name for name in names if name in (graph, *companions(graph))]
    else:
        whole = [name for name in names if name.count("/") == 0 or name.startswith("0_")]
        weights = [name for name in whole if name.endswith(".safetensors")]
        weights = weights or [name for name in whole if name.endswith(".bin") and "pytorch_model" in name]
        layers += [name for name in names if name[:1].isdigit() and name.endswith("pytorch_model.bin")]
    return list(dict.fromkeys([*small, *layers, *weights])) if weights else []


def _open_folder(info: ModelInfo, path: Path, options: LocalOptions, identity: str | None) -> Provider:
    if is_cross_encoder(path):
        raise not_a_model(info.uri)
    folder = read_folder(path, options.file)
    document_prompt = folder.document_prompt or info.document_prompt
    query_prompt = folder.query_prompt or info.query_prompt
    info = replace(info, document_prompt=document_prompt, query_prompt=query_prompt)
    card = read_card(path)
    info = replace(info, languages=card.languages or info.languages, licence=card.licence or info.licence)
    by_torch = wants_torch(options) or folder.graph is None or bool(folder.torch_only)
    runtime = "torch" if by_torch or folder.graph is None else folder.graph.relative_to(path).as_posix()
    identity = f"{identity or f'local:folder@{fingerprint(folder)}'}#{runtime}"
    if not by_torch:
        from lockstep.models.local.openvino_model import open_graph

        return open_graph(info, identity, folder, options)
    if options.runtime == "openvino":
        reason = folder.torch_only or "it has no graph"
        raise ConfigError(
            f'OpenVINO cannot run model "{info.uri}": {reason}.',
            "Leave out ?runtime=openvino, or export it to ONNX or OpenVINO.",
        )
    if find_spec("sentence_transformers") is None:
        raise need_torch(folder, info.uri)
    from lockstep.models.local.by_torch import TorchModel

    return TorchModel(info, identity, path, options)


def _can_run(names: Sequence[str], options: LocalOptions) -> bool:
    """Whether the files on this machine will do: another program may have brought weights for torch only."""
    return find_spec("sentence_transformers") is not None or choose_graph(names, options.file) is not None


def wants_torch(options: LocalOptions) -> bool:
    """A device or a type is only torch's to choose."""
    return options.runtime == "torch" or (options.runtime is None and bool(options.device or options.dtype))


def folder_of(name: str) -> Path:
    """The folder of a name that is a path.

    Raises:
        ConfigError: it is not there.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        raise ConfigError(f"There is no model folder {path.absolute()}.", "Check the path.")
    return path.absolute()


def snapshot(uri: ModelURI, options: LocalOptions, *, download: bool) -> hub.Snapshot:
    """The model's files on this machine, fetched where they may be.

    Raises:
        UnknownName: the name is none of the hub's.
        ConfigError: it is not here and must not be fetched.
    """
    if "/" not in uri.name:
        raise _unknown(uri.name)
    name = hub.HubName.parse(uri.name)

    def choose(names: Sequence[str]) -> Sequence[str]:
        return wanted_files(names, options)

    def choose_here(names: Sequence[str]) -> Sequence[str]:
        try:
            return choose(names) if _can_run(names, options) else ()
        except ConfigError:
            return ()  # the file that is asked for was not downloaded

    found = hub.find(name, choose_here)
    if found is not None:
        return found
    if not download:
        raise ConfigError(
            f'Model "local:{uri.name}" is not on this machine.', f"Run: lockstep models download local:{uri.name}"
        )
    return hub.download(name, choose)


def _unknown(name: str) -> UnknownName:
    """A bare name that ships with nothing: perhaps the last part of a hub's."""
    full = next(
        (entry.name for entry in catalogue.entries() if entry.name.rpartition("/")[2].lower() == name.lower()), ""
    )
    unknown = UnknownName("local model", name, KNOWN)
    if full:
        unknown.hint = f'Did you mean "local:{full}"?'
    elif not unknown.hint.startswith("Did you mean"):
        unknown.hint += " Others by their hub id, local:org/name, or their folder, local:./folder."
    return unknown


def name_of(snapshot: hub.Snapshot, uri: ModelURI) -> str:
    """The repository at the commit that was found: a branch moves, a commit does not."""
    return f"{hub.HubName.parse(uri.name).repo}@{snapshot.revision[:12]}"
