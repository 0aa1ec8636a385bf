"""python -m r2g.prepare: an annotation file from the originals, and a table of what was left out and why."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from r2g.prepare import mimic_cxr, openi
from r2g.prepare.sections import Section
from r2g.prepare.tally import PrepareError, Tally


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, show, write. Ends with status 1 and a message when the originals won't do."""
    options = _parser().parse_args(argv)
    try:
        tally, images = _mimic(options) if options.source == "mimic_cxr" else _openi(options)
        sys.stdout.write(tally.summary())
        tally.write(options.out)
    except (PrepareError, OSError) as error:
        raise SystemExit(f"r2g.prepare: {error}") from error
    kind = {"mimic_cxr": "mimic_cxr", "openi": "iu_xray"}[options.source]
    paths = f"data.annotation={options.out.resolve()} data.images={images.resolve()}"
    sys.stdout.write(f"\nTo use it: python -m r2g.run data={kind} data.section={options.section} {paths}\n")


def _mimic(options: argparse.Namespace) -> tuple[Tally, Path]:
    tally = mimic_cxr.build(
        options.reports,
        options.metadata,
        options.split,
        options.images,
        Section(options.section),
        mimic_cxr.Views(options.views),
    )
    return tally, mimic_cxr.files_root(options.images)


def _openi(options: argparse.Namespace) -> tuple[Tally, Path]:
    return openi.build(
        options.reports, options.images, Section(options.section), options.seed
    ), options.images


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m r2g.prepare", description=__doc__)
    sources = parser.add_subparsers(dest="source", required=True)
    mimic = sources.add_parser("mimic_cxr", help="MIMIC-CXR-JPG: one entry a study, the official split")
    mimic.add_argument(
        "--reports", type=Path, required=True, help="folder of files/p10/p10000032/s50414267.txt"
    )
    mimic.add_argument("--metadata", type=Path, required=True, help="mimic-cxr-2.0.0-metadata.csv.gz")
    mimic.add_argument("--split", type=Path, required=True, help="mimic-cxr-2.0.0-split.csv.gz")
    mimic.add_argument(
        "--images", type=Path, required=True, help="folder of files/p10/p10000032/s50414267/*.jpg"
    )
    views = [view.value for view in mimic_cxr.Views]
    mimic.add_argument("--views", choices=views, default="frontal", help="default: frontal (PA and AP)")
    iu = sources.add_parser("openi", help="OpenI: one entry a report, 70/10/20 %% by a hash of the uid")
    iu.add_argument(
        "--reports", type=Path, required=True, help="folder or archive (NLMCXR_reports.tgz) of XML files"
    )
    iu.add_argument("--images", type=Path, required=True, help="folder of CXR1_1_IM-0001-3001.png, ...")
    iu.add_argument(
        "--seed", type=int, default=0, help="of the split; OpenI has no official one (default: 0)"
    )
    for source in (mimic, iu):
        section = [section.value for section in Section]
        source.add_argument("--section", choices=section, default="findings", help="default: findings")
        source.add_argument(
            "--out", type=Path, required=True, help="annotation file to write (replaced if there)"
        )
    return parser


if __name__ == "__main__":
    main()
