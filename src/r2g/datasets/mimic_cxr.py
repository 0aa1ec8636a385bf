"""MIMIC-CXR as R2Gen prepared it: annotation.json and images/p10/p10000032/s50414267/FILM.jpg."""

from dataclasses import dataclass
from typing import ClassVar

from r2g.core.slots import DATASETS
from r2g.datasets._annotation import R2GenFolder

_SOURCE = """MIMIC-CXR-JPG can be had from https://physionet.org/content/mimic-cxr-jpg/ (credentialed access),
an annotation file from https://github.com/cuhksz-nlp/R2Gen; `python -m r2g.prepare mimic_cxr` makes one of
the originals."""


@DATASETS.register("mimic_cxr")
@dataclass(frozen=True)
class MimicCxr(R2GenFolder):
    """The entries' `subject_id` tells the patients apart."""

    source: ClassVar[str] = _SOURCE
    variable: ClassVar[str] = "R2G_MIMIC_CXR"
