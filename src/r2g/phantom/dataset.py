"""A folder of phantom studies in R2Gen's annotation format, drawn in parallel and found again."""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from r2g.phantom.draw import VIEWS, draw
from r2g.phantom.findings import Case, draw_case, labels
from r2g.phantom.words import report

VERSION = 1
"""Raised whenever the same seed gives other films or reports, so that old folders are drawn again."""
_CHUNK = 32


@dataclass(frozen=True)
class _Job:
    folder: str
    split: str
    indices: tuple[int, ...]
    size_px: int
    views: int
    seed: int


def study_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The study's own random numbers: the same in any order and on any number of processes."""
    return np.random.default_rng((seed, zlib.crc32(split.encode()), index))


def write_reports(sizes: Mapping[str, int], seed: int) -> dict[str, dict[str, str]]:
    """The reports of `draw_dataset` by split and id, without its films: thousands a second."""
    return {
        split: {_name(split, index): _tell(seed, split, index)[2] for index in range(count)}
        for split, count in sizes.items()
    }


def draw_dataset(
    folder: Path,
    sizes: Mapping[str, int],
    size_px: int = 128,
    views: int = 1,
    seed: int = 0,
    processes: int = 0,
    progress: bool = True,
) -> Path:
    """Draw films and reports into `folder`, unless they are there already.

    Args:
        folder: gets `annotation.json` (R2Gen's format with labels and patient), `images/`, `phantom.json`.
        sizes: number of studies of each split.
        size_px: height and width of the films.
        views: 1 (frontal) or 2 (frontal and lateral).
        seed: decides everything; a study depends on the seed, its split and its index alone.
        processes: 0 takes one for each core; 1 draws in this process.
        progress: a bar on a terminal.

    Returns:
        The annotation file's path.

    Raises:
        ValueError: a setting is out of range.
        FileExistsError: the folder holds something else.
    """
    _check(sizes, size_px, views)
    folder = Path(folder)
    settings = {"version": VERSION, "sizes": dict(sizes), "size_px": size_px, "views": views, "seed": seed}
    if _found(folder, settings):
        return folder / "annotation.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        workers = processes or os.cpu_count() or 1
        annotation = _draw_all(partial, sizes, size_px, views, seed, workers, progress)
        (partial / "annotation.json").write_text(json.dumps(annotation))
        (partial / "phantom.json").write_text(json.dumps(settings, indent=1))
        partial.chmod(0o755)
        _move(partial, folder, settings)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "annotation.json"


def _check(sizes: Mapping[str, int], size_px: int, views: int) -> None:
    problems = [f"sizes.{split} is {count}, must be 0 or more" for split, count in sizes.items() if count < 0]
    if size_px < 32:
        problems.append(f"size_px is {size_px}, must be at least 32")
    if not 1 <= views <= len(VIEWS):
        problems.append(f"views is {views}, must be 1 or {len(VIEWS)}")
    if problems:
        raise ValueError("; ".join(problems))


def _found(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds exactly these studies; anything else in its place is refused."""
    if not folder.exists():
        return False
    mark = folder / "phantom.json"
    if mark.is_file() and json.loads(mark.read_text()) == settings:
        return True
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    raise FileExistsError(
        f"{folder} holds other things than these phantom studies: remove it, or name another"
    )


def _move(partial: Path, folder: Path, settings: dict[str, Any]) -> None:
    """Rename into place; another process that drew the same studies first has won, and its are as good."""
    try:
        partial.rename(folder)
    except OSError:
        if not _found(folder, settings):
            raise


def _draw_all(
    folder: Path,
    sizes: Mapping[str, int],
    size_px: int,
    views: int,
    seed: int,
    processes: int,
    progress: bool,
) -> dict[str, list[dict[str, Any]]]:
    jobs = []
    for split, count in sizes.items():
        (folder / "images" / split).mkdir(parents=True)
        for start in range(0, count, _CHUNK):
            indices = tuple(range(start, min(start + _CHUNK, count)))
            jobs.append(_Job(str(folder), split, indices, size_px, views, seed))
    annotation: dict[str, list[dict[str, Any]]] = {split: [] for split in sizes}
    quiet = not (progress and sys.stderr.isatty())
    with tqdm(total=sum(sizes.values()), desc="drawing films", unit="study", disable=quiet) as bar:
        for job, entries in zip(jobs, _results(jobs, processes), strict=True):
            annotation[job.split] += entries
            bar.update(len(entries))
    return annotation


def _results(jobs: list[_Job], processes: int) -> Iterator[list[dict[str, Any]]]:
    """Entries of each job in order. A spawned process imports afresh, so few jobs are done here."""
    if processes == 1 or len(jobs) <= 4:
        yield from map(_draw_chunk, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(jobs))) as pool:
        yield from pool.imap(_draw_chunk, jobs)


def _draw_chunk(job: _Job) -> list[dict[str, Any]]:
    return [_draw_study(job, index) for index in job.indices]


def _name(split: str, index: int) -> str:
    return f"{split}_{index:06d}"


def _tell(seed: int, split: str, index: int) -> tuple[np.random.Generator, Case, str]:
    """A study's case and report, and the random numbers that its films go on from."""
    rng = study_rng(seed, split, index)
    case = draw_case(rng)
    return rng, case, report(case, rng, "data")


def _draw_study(job: _Job, index: int) -> dict[str, Any]:
    rng, case, text = _tell(job.seed, job.split, index)
    name = _name(job.split, index)
    paths = []
    for view, film in zip(VIEWS, draw(case, rng, job.size_px, job.views), strict=False):
        paths.append(f"{job.split}/{name}_{view}.png")
        Image.fromarray(film).save(Path(job.folder) / "images" / paths[-1], compress_level=1)
    return {
        "id": name, "report": text, "image_path": paths, "labels": list(labels(case)), "patient": f"p_{name}"
    }  # fmt: skip
