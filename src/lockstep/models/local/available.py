"""Which models are there: those that ship, those that were downloaded, and well-known ones that could be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lockstep.errors import ConfigError
from lockstep.models import catalogue, hub
from lockstep.models.catalogue import Entry
from lockstep.models.local.cross_encoder import is_cross_encoder
from lockstep.models.local.folder import read_folder
from lockstep.models.local.shipped import KNOWN, shipped_info
from lockstep.types import ModelInfo


@dataclass(frozen=True, slots=True)
class Available:
    """A model that can be named."""

    info: ModelInfo
    """As far as it is known without loading the model."""
    installed: Literal["ships", "downloaded", ""]
    """Whether it is on this machine, and how it came here; empty when it must be downloaded first."""


def available() -> list[Available]:
    """Models that ship first, then those that are here, then the others, by name."""
    installed = hub.installed()
    here = {model.repo.lower() for model in installed}
    known = [_published(entry, is_here=entry.name.lower() in here) for entry in catalogue.entries()]
    names = {model.info.uri for model in known}
    others = (_downloaded(model) for model in installed if f"local:{model.repo}" not in names)
    found = [*(model for model in known if model.installed), *(model for model in others if model)]
    return [*_shipped(), *found, *(model for model in known if not model.installed)]


def published(name: str) -> Available | None:
    """What the catalogue says of a model on the hub, by its name there."""
    entry = catalogue.lookup(name)
    here = {model.repo.lower() for model in hub.installed()}
    return _published(entry, is_here=entry.name.lower() in here) if entry else None


def _shipped() -> Iterator[Available]:
    for name in KNOWN:
        yield Available(shipped_info(name), "ships")


def _downloaded(model: hub.InstalledModel) -> Available | None:
    """A model that the catalogue does not know, as its folder says; None when it embeds no texts."""
    if not (model.folder / "modules.json").is_file() or is_cross_encoder(model.folder):
        return None
    try:
        folder = read_folder(model.folder)
    except ConfigError:
        return None  # `models show` says what is wrong with it
    info = ModelInfo(
        uri=f"local:{model.repo}",
        dimensions=folder.dimensions or 0,
        max_tokens=folder.max_tokens,
        size_bytes=model.size_bytes,
        revision=model.revision,
        document_prompt=folder.document_prompt,
        query_prompt=folder.query_prompt,
    )
    return Available(info, "downloaded")


def _published(entry: Entry, *, is_here: bool) -> Available:
    return Available(entry.info(), "downloaded" if is_here else "")
