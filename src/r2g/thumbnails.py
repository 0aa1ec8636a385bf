"""Small pictures of the first test films, for comparisons; only of data that may be shown."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from r2g import record
from r2g.core.images import load_image
from r2g.data import Studies

COUNT = 8
_SIDE = 160
_QUALITY = 75


def write(folder: Path, studies: Studies) -> None:
    """A grey JPEG of some KB for each of the first studies, its views side by side, squeezed as encoders read them."""
    place = folder / record.THUMBNAILS
    place.mkdir(parents=True, exist_ok=True)
    for i, paths in enumerate(studies.paths[:COUNT]):
        pixels = np.concatenate([load_image(path, _SIDE, 1)[0] for path in paths[: studies.views]], axis=1)
        path = place / record.thumbnail(i)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        Image.fromarray(pixels).save(draft, "JPEG", quality=_QUALITY, optimize=True)
        draft.replace(path)
