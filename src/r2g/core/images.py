"""From an image file to an encoder's input: decoded at its true depth, resized, normalized."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

# Raised when `load_image` gives other pixels for a file, so that films and patches that were kept are made anew.
PIXELS = 1
_DEEP = ("I;16", "I;16B", "I;16L", "I")
# Detectors give 10 to 14 bits, and files keep them in 16: the largest value tells how many are used.
_DEPTHS = (8, 10, 12, 14, 16)
_Bomb = Image.DecompressionBombError
_DRAFT = 2  # a JPEG is decoded at no less than so many times the side that is asked for


class ImageError(ValueError):
    """A file that is no image, or a broken one; the message names it."""


def load_image(path: str | Path, size: int, channels: int) -> UInt8[np.ndarray, "channel {size} {size}"]:
    """The whole image squeezed to `size` x `size` pixels (bicubic, antialiased), grey (1) or RGB (3).

    As Swin's and ViT's processors do, the aspect ratio is not kept and nothing is cropped. JPEGs are decoded
    at half, a quarter or an eighth of their size where that is still twice `size`: a grey level or two of 255
    apart. Images of more than 8 bits are scaled by the depth that they use (8, 10, 12, 14 or 16 bits), so
    nothing saturates. Transparency and the orientation tag are passed over.

    Raises FileNotFoundError, ImageError (no image, corrupt, cut off, unknown kind), ValueError (channels).
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    try:
        with Image.open(path) as image:
            image.draft("L" if channels == 1 else image.mode, (_DRAFT * size, _DRAFT * size))
            image.load()
            pixels = _pixels(image, size, channels)
    except FileNotFoundError:
        raise
    # PIL's decoders raise all of these on damaged bytes, each for another kind of damage.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, _Bomb) as error:
        raise ImageError(f"{os.fspath(path)} can't be read as an image: {error}") from error
    grey = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(grey, (channels, size, size)))


def normalize(
    pixels: UInt8[Tensor, "*batch channel height width"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "*batch channel height width"]:
    """fp32 on the pixels' device: (pixels / 255 - mean) / std, channel by channel."""
    scale = torch.tensor(std, dtype=torch.float32, device=pixels.device)[:, None, None]
    shift = torch.tensor(mean, dtype=torch.float32, device=pixels.device)[:, None, None]
    return (pixels.float() / 255 - shift) / scale


def _pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    if image.mode in _DEEP:
        return _deep(np.asarray(image), size)
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers, whose range nobody states; save 8 or 16 bits")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # the only way that PIL reads such a palette without a warning
    plain = image.convert("L" if channels == 1 or image.mode in ("1", "L", "LA") else "RGB")
    return np.asarray(plain.resize((size, size), Image.Resampling.BICUBIC))


def _deep(values: np.ndarray, size: int) -> np.ndarray:
    """Grey levels of any depth to 8 bits, resized in floating point first."""
    lowest, highest = int(values.min()), int(values.max())
    depth = next((depth for depth in _DEPTHS if highest < 2**depth), None)
    if depth is None or lowest < 0:
        raise ValueError(f"grey levels from {lowest} to {highest} are not 16 bits")
    scaled = Image.fromarray(values.astype(np.float32) * (255 / (2**depth - 1)))
    resized = np.asarray(scaled.resize((size, size), Image.Resampling.BICUBIC))
    return resized.round().clip(0, 255).astype(np.uint8)
