"""Images are read from wherever a user has them, bounded, and decoded to what a model sees; what is none is refused."""

from __future__ import annotations

import base64
import contextlib
import io
import random
import struct
import sys
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lockstep.errors import DocumentUnreadable, ImageUnreadable, MissingExtra
from lockstep.models import images as module
from lockstep.models.images import decode_image, find_image, image_name, is_image, read_image
from lockstep.types import Text

Image = pytest.importorskip("PIL.Image")

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 2), color: Any = RED) -> Any:
    return Image.new("RGB", size, color).convert(mode)


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, with next to no pixels."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0" * 1000)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.fixture
def png() -> bytes:
    return encoded(picture())


@pytest.mark.parametrize("kind", FORMATS)
def test_every_known_format_is_read_and_decoded(kind: str) -> None:
    """By the first bytes, whatever a file is called."""
    content = encoded(picture(), kind)
    assert is_image(content)
    assert read_image(content) == content
    image = decode_image(content)
    assert (image.mode, image.size) == ("RGB", (4, 2))
    assert all(abs(a - b) < 40 for a, b in zip(image.getpixel((0, 0)), RED, strict=True))


def test_a_file_is_read_by_its_path(png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text, as Path, and from the user's folder."""
    path = tmp_path / "a picture"
    path.write_bytes(png)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert read_image(path) == read_image(str(path)) == read_image("~/a picture") == png


def test_bytes_of_any_kind_are_read(png: bytes) -> None:
    """As a database gives them."""
    assert read_image(bytearray(png)) == read_image(memoryview(png)) == png


def test_a_data_uri_is_read(png: bytes) -> None:
    """In base64, with line breaks or without, and in percent encoding."""
    text = base64.b64encode(png).decode()
    assert read_image(f"data:image/png;base64,{text}") == png
    assert read_image(f"data:image/png;base64,{text[:20]}\n {text[20:]}") == png
    assert read_image("data:image/png," + quote(png)) == png


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("data:image/png;base64", "data URI without a comma"),
        ("data:image/png;base64,%%%", "no valid base64"),
        ("data:image/png;base64,AAA", "no valid base64"),
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "is no image: it begins with b'hello wo'"),
        ("data:image/png;base64,", "is no image: it begins with b''"),
        (b"", "is no image"),
        (b"hello", "is no image: it begins with b'hello'"),
        (b"%PDF-1.7 and more", "PNG, JPEG, WebP, GIF, BMP and TIFF are known"),
        (b"RIFF\0\0\0\0WAVEfmt ", "is no image"),
        ("/none/such.png", "/none/such.png, cannot be read: No such file"),
        ("", "cannot be read: Is a directory"),
        ("a\0b.png", "cannot be read: .*null"),
        ("x" * 5000 + ".png", "cannot be read: File name too long"),
        (17, "is of type int"),
        (None, "is of type NoneType"),
    ],
)
def test_what_is_no_image_is_refused(source: Any, problem: str) -> None:
    """The error says which, and what is wrong with it."""
    with pytest.raises(ImageUnreadable, match=f"Image 3.*{problem}"):
        read_image(source, "Image 3")


def test_a_large_file_is_refused_before_all_of_it_is_read(
    png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every source; the limit itself is allowed."""
    path = tmp_path / "large.png"
    path.write_bytes(png + b"\0" * 100)
    monkeypatch.setattr(module, "BYTES_MAX", len(png))
    assert read_image(png) == png
    uri = "data:image/png;base64," + base64.b64encode(png * 4).decode()
    for source in (path, png + b"\0", uri):
        with pytest.raises(ImageUnreadable, match=rf"has \d+ (bytes|characters).*{len(png)}"):
            read_image(source)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused(kind: str) -> None:
    """Wherever it ends: never half an image, never another exception."""
    noise = Image.frombytes("RGB", (24, 24), random.Random(1).randbytes(24 * 24 * 3))
    content, problems = encoded(noise, kind), []
    for length in range(12, len(content) - 40, max(1, len(content) // 60)):
        try:
            image = decode_image(content[:length], "Image 1")
        except ImageUnreadable as exc:
            problems.append(exc.message)
        else:
            # A GIF's last rows are those that were there before.
            assert kind == "GIF", f"{kind} cut to {length} of {len(content)} was decoded to {image.size}"
    assert problems
    assert all(problem.startswith("Image 1 cannot be decoded: ") for problem in problems)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes_raise_nothing_else(kind: str) -> None:
    """Some damage shows, some does not; a library's own exception never gets out."""
    chance = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    content = encoded(picture(size=(16, 16)), kind, **options)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(ImageUnreadable):
            assert decode_image(bytes(damaged)).mode == "RGB"


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_small_file_that_unpacks_to_a_huge_image_is_refused(width: int, height: int) -> None:
    """Before any of it is unpacked: by the size in its header."""
    content = png_header(width, height)
    assert len(content) < 200
    with pytest.raises(ImageUnreadable, match=r"Image 0 .*pixels") as caught:
        decode_image(content, "Image 0")
    assert "Traceback" not in str(caught.value)


def test_a_large_image_within_the_limit_makes_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns from 89 million pixels on; the limit here is another."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert decode_image(encoded(picture(size=(8, 8)))).size == (8, 8)


def test_an_animation_is_its_first_picture() -> None:
    """GIF and WebP may hold several."""
    frames = [picture(size=(8, 8), color=color) for color in (GREEN, RED, BLUE)]
    for kind in ("GIF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
        image = decode_image(content)
        assert (image.size, image.getpixel((3, 3))) == ((8, 8), GREEN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_says(orientation: int) -> None:
    """EXIF's orientation: the model sees what a viewer shows. The corner that is red is put top left."""
    upright = Image.new("RGB", (4, 2), BLUE)
    upright.putpixel((0, 0), RED)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose by number
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, "PNG", exif=exif))
    assert image.size == (4, 2)
    assert [image.getpixel((x, y)) for y in range(2) for x in range(4)].index(RED) == 0


def test_a_photograph_with_unusual_exif_data_is_decoded() -> None:
    """Cameras write all sorts; only the orientation is of interest."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    content = encoded(picture(), "JPEG", exif=exif)
    at = content.index(b"Exif") + 6 + 10  # the first entry: tag, type, count, value
    for byte in range(12, 24):
        damaged = bytearray(content)
        damaged[at + byte] ^= 0x5A
        assert decode_image(bytes(damaged)).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_kind_of_pixels_becomes_rgb(mode: str) -> None:
    """Grey, palettes, alpha, print colours, 16 bits."""
    kind = "TIFF" if mode in ("CMYK", "F") else "PNG"
    image = picture("L", color=(200, 200, 200)).convert(mode) if mode != "I;16" else Image.new("I;16", (4, 2), 51_400)
    found = decode_image(encoded(image, kind))
    assert (found.mode, found.size) == ("RGB", (4, 2))
    assert len(set(found.getpixel((1, 1)))) == 1


def test_sixteen_bits_of_grey_are_not_all_white() -> None:
    """Scans and X-rays: half of the range is half of it afterwards."""
    found = decode_image(encoded(Image.new("I;16", (4, 2), 0x8080)))
    assert found.getpixel((0, 0)) == (128, 128, 128)


def test_a_palette_with_alpha_is_decoded_without_a_warning() -> None:
    """Pillow warns of transparency given for each colour of a palette."""
    image = picture("P", size=(4, 4))
    content = encoded(image, "PNG", transparency=bytes(range(0, 250, 10)))
    assert decode_image(content).getpixel((0, 0)) == RED


def test_without_pillow_the_error_says_how_to_get_it(png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading needs none, decoding does."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert read_image(png) == png
    with pytest.raises(MissingExtra, match=r"pip install 'lockstep\[torch\]'"):
        decode_image(png)


def test_an_image_is_found_in_a_documents_value(png: bytes, tmp_path: Path) -> None:
    """Bytes, a data URI, or the path of a file by its ending, relative to the folder or not."""
    (tmp_path / "a.PNG").write_bytes(png)
    (tmp_path / "b c.png").write_bytes(png)
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    assert find_image(png, tmp_path) == Text("", image_name("", png), png)
    assert find_image(memoryview(png), tmp_path) == Text("", image_name("", png), png)
    assert find_image(uri, tmp_path) == Text("", image_name("", png), png)
    for name in ("a.PNG", "b c.png", str(tmp_path / "a.PNG")):
        found = find_image(name, tmp_path)
        assert found is not None
        assert found.text == image_name(name, png)
        assert found.image == str(tmp_path / name)


@pytest.mark.parametrize(
    "value", ["", "a sentence", "see the a.png", "a.txt", "a.png\n", b"bytes", 17, None, "data:text/plain,a"]
)
def test_other_values_are_no_images(value: Any, tmp_path: Path) -> None:
    """They go the way of texts."""
    assert find_image(value, tmp_path) is None


def test_what_looks_like_an_image_and_is_none_is_said(tmp_path: Path) -> None:
    """A document that names a file that is not there cannot be embedded, and says so."""
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    for value in ("gone.png", "text.png", "data:image/png;base64,AAAA"):
        with pytest.raises(DocumentUnreadable):
            find_image(value, tmp_path)


def test_images_of_one_name_are_told_apart(png: bytes) -> None:
    """The name holds a hash of the content: a file that changes is embedded again."""
    other = encoded(picture(color=BLUE))
    assert image_name("a.png", png) != image_name("a.png", other)
    assert image_name("a.png", png) == image_name("a.png", bytes(bytearray(png)))
    assert image_name("a.png", png).startswith("a.png (image ")
