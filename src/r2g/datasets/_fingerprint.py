"""What a data set is by content: one hash of ids, cleaned reports, labels and image bytes, not of paths.

The first look reads every image once, at the speed of the disk: a terabyte of films takes an hour or more.
A hash is kept beside the file's size and time of change, so a later look costs one `stat` an image.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from r2g.datasets.base import Splits

_THREADS = 8  # hashing lets go of the interpreter's lock, and so does waiting for a disk
_BLOCK = 10_000  # images between two savings: an interrupted first look doesn't start from nothing
_SCHEME = "r2g-data-1"  # a new way to hash gets a new name


def fingerprint(data: Splits, cache: Path) -> str:
    """32 hex digits over each split's studies, sorted by id; moving or renaming files doesn't change them.

    `cache` is the folder for image hashes; it holds paths, hence patients' numbers: treat it as patient data.
    An image that was overwritten with its size and time of change kept is not noticed.
    """
    images = image_hashes(data, cache)
    total = hashlib.sha256(_SCHEME.encode())
    for split in sorted(data):
        rows = data[split][:]  # as lists: a column by itself is read one row at a time
        studies = zip(rows["id"], rows["report"], rows["labels"], rows["image_path"], strict=True)
        for name, report, labels, views in sorted(studies, key=lambda study: study[0]):
            line = [split, name, report, labels and sorted(labels), [images[path] for path in views]]
            total.update(json.dumps(line, ensure_ascii=True).encode() + b"\n")
    return total.hexdigest()[:32]


def image_hashes(data: Splits, cache: Path) -> dict[str, str]:
    """sha256 of each film's file, by path; from the cache where size and time of change are as they were."""
    paths = sorted({path for rows in data.values() for views in rows["image_path"][:] for path in views})
    return _hashes(paths, cache / "fingerprints")


def _hashes(paths: Sequence[str], folder: Path) -> dict[str, str]:
    """sha256 of each file's bytes, from the cache where size and time of change are as they were."""
    # One cache file per list of images: runs on different data never overwrite one another's.
    name = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]
    file = folder / f"{name}.json"
    known = _read(file)
    with ThreadPoolExecutor(_THREADS) as pool:
        blocks = [paths[start : start + 256] for start in range(0, len(paths), 256)]
        marks = dict(pair for pairs in pool.map(_marks, blocks) for pair in pairs)
        stale = [path for path in paths if known.get(path, [""])[0] != marks[path]]
        with tqdm(desc="Hash images", total=len(stale), unit="image", disable=None, delay=1) as bar:
            for start in range(0, len(stale), _BLOCK):
                block = stale[start : start + _BLOCK]
                for path, value in zip(block, pool.map(_sha256, block), strict=True):
                    known[path] = [marks[path], value]
                    bar.update()
                _write(file, known)
    return {path: known[path][1] for path in paths}


def _marks(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Each path with its file's size and time of change."""
    stats = [os.stat(path) for path in paths]  # noqa: PTH116 - a Path each costs more than the call
    return [(path, f"{s.st_size}-{s.st_mtime_ns}") for path, s in zip(paths, stats, strict=True)]


def _sha256(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: Path) -> dict[str, list[str]]:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged; delete it, and the images are hashed again") from error


def _write(file: Path, entries: dict[str, list[str]]) -> None:
    """Whole or not at all, also when several runs write it at a time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=file.stem)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(entries, stream)
        os.replace(scratch, file)  # noqa: PTH105
    finally:
        with contextlib.suppress(FileNotFoundError):  # gone when the replacement worked
            os.unlink(scratch)  # noqa: PTH108
