"""Drawn chest films with reports and exactly known labels: no download, no patients."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from r2g.core.slots import DATASETS
from r2g.datasets._annotation import read_annotation
from r2g.datasets.base import Cleaner, Dataset, Splits
from r2g.phantom.dataset import VERSION, draw_dataset, write_reports
from r2g.phantom.draw import VIEWS

_SMALLEST = 32


@DATASETS.register("phantom")
@dataclass(frozen=True)
class Phantom(Dataset):
    """So many studies a split, `size` pixels in a side.

    `data_seed` decides every film and report; the run's seed has no part: an arm's seeds share data.
    """

    train: int
    val: int
    test: int
    size: int
    max_views: int
    data_seed: int

    def __post_init__(self) -> None:
        least = {"train": 1, "val": 1, "test": 1, "size": _SMALLEST, "max_views": 1, "data_seed": 0}
        faults = [
            f"{name} must be at least {low}" for name, low in least.items() if getattr(self, name) < low
        ]
        if self.max_views > len(VIEWS):
            faults.append(f"max_views must be at most {len(VIEWS)}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def shareable(self) -> bool:
        return True

    @property
    def views(self) -> int:
        return self.max_views

    def load(self, cache: Path, seed: int) -> Splits:
        """Drawn on all cores at the first call, into `cache`/phantom/KEY; found there at the next ones."""
        del seed
        file = draw_dataset(
            cache / "phantom" / self._key(),
            sizes=self._sizes(),
            size_px=self.size,
            views=self.max_views,
            seed=self.data_seed,
        )
        return read_annotation(file, file.parent / "images", Cleaner.none, self.max_views, check_files=True)

    def originals(self) -> dict[str, dict[str, str]]:
        """The reports by split and id, written anew; no film is drawn and no file is needed."""
        return write_reports(self._sizes(), self.data_seed)

    def _sizes(self) -> dict[str, int]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def _key(self) -> str:
        """A folder's name for these films; another version of the drawing gets a folder of its own."""
        settings = [VERSION, self._sizes(), self.size, self.max_views, self.data_seed]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
