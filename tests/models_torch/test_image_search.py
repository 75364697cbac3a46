"""A search by an image: as a file, as bytes and as a data URI, among documents with pictures and texts."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

import lockstep
from lockstep.errors import LockstepError


def test_an_image_finds_its_like(folders: Path, tmp_path: Path, images: list[bytes]) -> None:
    """Its own picture first; with words beside it in a hybrid search; what is no image is an error."""
    uris = ["data:image/png;base64," + base64.b64encode(image).decode() for image in images[:2]]
    (tmp_path / "query.png").write_bytes(images[0])
    with lockstep.open(tmp_path / "data.db") as db:
        db.collection("photos").upsert([{"id": str(n), "photo": uri, "name": f"cat {n}"} for n, uri in enumerate(uris)])
        db.add_task("photos", "photos", ["photo", "name"], model=f"local:{folders / 'clip'}")
        db.sync()
        for given in (images[0], uris[0], tmp_path / "query.png", str(tmp_path / "query.png")):
            hit = db.search("photos", image=given, fields=["photo"])[0]
            assert hit.id == "0"
            assert hit.similarity == pytest.approx(1, abs=1e-3)
        assert {hit.id for hit in db.search("photos", "cat", image=images[0], mode="hybrid")} == {"0", "1"}
        for wrong in (b"no image", str(tmp_path / "none.png"), 5):
            with pytest.raises(LockstepError):
                db.search("photos", image=wrong)
