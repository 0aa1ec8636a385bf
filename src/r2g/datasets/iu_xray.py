"""IU X-ray (OpenI) as R2Gen prepared it: annotation.json and images/CXR2384_IM-0942/0.png."""

from dataclasses import dataclass
from typing import ClassVar

from r2g.core.slots import DATASETS
from r2g.datasets._annotation import R2GenFolder

_SOURCE = """IU X-ray can be had from https://openi.nlm.nih.gov/faq (films and reports, free), in this layout
from https://github.com/cuhksz-nlp/R2Gen; `python -m r2g.prepare openi` makes an annotation file of the
originals."""


@DATASETS.register("iu_xray")
@dataclass(frozen=True)
class IuXray(R2GenFolder):
    """Two views a study: frontal and lateral."""

    source: ClassVar[str] = _SOURCE
    variable: ClassVar[str] = "R2G_IU_XRAY"
