"""Films in a record: the first ones, small, views side by side; and none of data that may not be shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2g import record, thumbnails
from r2g.data import Studies
from r2g.encoders.base import Preprocess


@pytest.fixture
def split(tmp_path: Path) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    paths = []
    for i in range(10):
        names = [str(tmp_path / f"{i}_{view}.png") for view in range(1 + i % 2)]
        for name in names:
            Image.fromarray(draw.integers(0, 2**12, (40, 60)).astype(np.uint16)).save(name)
        paths.append(names)
    ids = [f"study {i}/a" for i in range(10)]
    return {"id": ids, "report": ids, "image_path": paths, "labels": [None] * 10}


@pytest.mark.parametrize(("views", "widths"), [(1, [160] * 8), (2, [160, 320] * 4)])
def test_the_first_studies_are_shown_small(
    split: dict[str, Any], tmp_path: Path, views: int, widths: list[int]
) -> None:
    studies = Studies(split, Preprocess(32, (0.5,), (0.5,)), views, None)
    thumbnails.write(tmp_path / "run", studies)
    files = sorted((tmp_path / "run" / record.THUMBNAILS).iterdir())
    assert [path.name for path in files] == [record.thumbnail(i) for i in range(8)]
    sizes = []
    for path in files:
        with Image.open(path) as film:
            sizes.append(film.size)
            assert film.mode == "L"
    assert sizes == [(width, 160) for width in widths]
    before = [path.read_bytes() for path in files]
    thumbnails.write(tmp_path / "run", studies)
    assert before == [path.read_bytes() for path in files]
