"""Images of every kind that films come in, whole and broken."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from r2g.core.images import ImageError, load_image, normalize


def film(height: int = 96, width: int = 80) -> np.ndarray:
    """A smooth grey picture that uses 0 to 255, so that every resize shows and none clips."""
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin(x / width * 7) + np.cos(y / height * 5) + 0.3 * np.sin((x + y) / 9)
    return ((wave - wave.min()) / np.ptp(wave) * 255).round().astype(np.uint8)


def save(folder: Path, image: Image.Image, name: str = "film.png", **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def far(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_png(tmp_path: Path, channels: int) -> None:
    pixels = load_image(save(tmp_path, Image.fromarray(film())), 32, channels)
    assert (pixels.shape, pixels.dtype) == ((channels, 32, 32), np.uint8)
    expected = functional.resize(torch.from_numpy(film())[None], [32, 32], interpolation=3, antialias=True)
    assert far(pixels, expected.numpy()) <= 2


@pytest.mark.parametrize("top", [255, 1023, 4095, 16383, 65535])
def test_deep_films_look_like_their_8_bit_copies(tmp_path: Path, top: int) -> None:
    """A film of 10 to 16 bits in a 16-bit file: neither white nor black."""
    deep = (film().astype(np.float64) / 255 * top).round().astype(np.uint16)
    path = save(tmp_path, Image.fromarray(deep))
    with Image.open(path) as image:
        assert image.mode == "I;16"
    eight = load_image(save(tmp_path, Image.fromarray(film()), "eight.png"), 32, 3)
    pixels = load_image(path, 32, 3)
    assert far(pixels, eight) <= 1
    assert 60 < pixels.mean() < 195


def test_a_black_deep_film_is_black(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(np.zeros((8, 8), np.uint16)))
    assert load_image(path, 4, 1).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_of_png(tmp_path: Path, mode: str, channels: int) -> None:
    grey = Image.fromarray(np.where(film() > 127, 255, 0).astype(np.uint8))
    path = save(tmp_path, grey.convert(mode))
    with Image.open(path) as image:
        assert image.mode == mode
    expected = load_image(save(tmp_path, grey, "grey.png"), 16, channels)
    assert far(load_image(path, 16, channels), expected) <= 1


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(film()).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    path = save(tmp_path, image, transparency=bytes([0, 128] * 32))
    assert far(load_image(path, 32, 1), load_image(save(tmp_path, image, "plain.png"), 32, 1)) <= 1


def test_colour_is_kept_or_turned_to_grey(tmp_path: Path) -> None:
    path = save(tmp_path, Image.new("RGB", (8, 8), (200, 100, 0)))
    assert load_image(path, 4, 3)[:, 0, 0].tolist() == [200, 100, 0]
    assert load_image(path, 4, 1)[:, 0, 0].tolist() == [118]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_in_draft_is_close_to_the_whole_one(tmp_path: Path, mode: str, channels: int) -> None:
    path = save(tmp_path, Image.fromarray(film(1200, 1000)).convert(mode), "film.jpg", quality=95)
    with Image.open(path) as image:
        whole = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BICUBIC))
    assert far(load_image(path, 64, channels), whole[None]) <= 2


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_a_deep_tiff(tmp_path: Path, kind: type) -> None:
    deep = film().astype(kind) * 257
    path = save(tmp_path, Image.fromarray(deep), "film.tif")
    eight = load_image(save(tmp_path, Image.fromarray(film())), 32, 1)
    assert far(load_image(path, 32, 1), eight) <= 1


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.full((8, 8), 0.5, np.float32), "floating-point"), (np.full((8, 8), 70000, np.int32), "not 16 bits")],
)
def test_unknown_ranges_are_refused(tmp_path: Path, values: np.ndarray, said: str) -> None:
    with pytest.raises(ImageError, match=rf"film\.tif can't be read as an image: .*{said}"):
        load_image(save(tmp_path, Image.fromarray(values), "film.tif"), 4, 1)


@pytest.mark.parametrize("name", ["film.png", "film.jpg"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str, part: float) -> None:
    path = save(tmp_path, Image.fromarray(film(400, 400)), name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ImageError, match=name.replace(".", r"\.")):
        load_image(path, 64, 3)


def test_wrong_bytes_in_a_png_are_found(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(film()))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"film\.png"):
        load_image(path, 8, 1)


def test_a_png_without_pixels(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(film()))
    content = path.read_bytes()
    start = content.index(b"IDAT")
    empty = b"IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    path.write_bytes(content[: start - 4] + b"\0\0\0\0" + empty + content[content.index(b"IEND") - 4 :])
    with pytest.raises(ImageError, match=r"film\.png"):
        load_image(path, 8, 1)


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "film.jpg").write_text("<html>login</html>")
    with pytest.raises(ImageError, match=r"film\.jpg can't be read"):
        load_image(tmp_path / "film.jpg", 8, 1)


def test_a_missing_file_stays_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        load_image(tmp_path / "gone.png", 8, 1)


def test_channels_are_one_or_three(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        load_image(tmp_path / "film.png", 8, 2)


def test_normalize_by_channel() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 3, 1, 1).expand(2, 4, 3, 5, 5)
    result = normalize(pixels, (0.5, 0.5, 0.0), (0.5, 0.25, 1.0))
    assert (result.shape, result.dtype) == ((2, 4, 3, 5, 5), torch.float32)
    assert torch.allclose(result[0, 0, :, 0, 0], torch.tensor([-1.0, 2.0, 0.2]))
