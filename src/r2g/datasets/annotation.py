"""Anybody's folder: an annotation file in R2Gen's format and the images that it names."""

from dataclasses import dataclass
from pathlib import Path

from r2g.core.slots import DATASETS
from r2g.datasets._annotation import check_views, read_annotation, require
from r2g.datasets.base import Cleaner, Dataset, Section, Splits

_REMEDY = (
    "set data.annotation to a JSON file {train, val, test: [{id, report, image_path: [...]}, ...]} "
    "and data.images to the folder that its image paths start from"
)


@DATASETS.register("annotation")
@dataclass(frozen=True)
class Annotation(Dataset):
    """`section` states which part of the original reports the file holds: protocols are held against it.

    `share` says whether texts and pictures of this data may be shown in reports and thumbnails.
    """

    annotation: Path | None
    images: Path | None
    section: Section
    cleaner: Cleaner
    max_views: int
    check_files: bool
    share: bool

    def __post_init__(self) -> None:
        check_views(self.max_views)

    @property
    def shareable(self) -> bool:
        return self.share

    @property
    def views(self) -> int:
        return self.max_views

    def load(self, cache: Path, seed: int) -> Splits:
        """As it stands in the files; neither the cache nor the seed plays a part. Raises AnnotationError."""
        del cache, seed
        file, images = require(None, self.annotation, self.images, _REMEDY)
        return read_annotation(file, images, self.cleaner, self.max_views, self.check_files)
