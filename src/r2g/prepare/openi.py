"""OpenI (Indiana University): one entry a report, split by a hash, since there is no official split."""

import hashlib
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from r2g.prepare.sections import Section
from r2g.prepare.tally import PrepareError, Tally

_FILMS = (".png", ".jpg", ".jpeg")


def build(reports: Path, images: Path, section: Section, seed: int) -> Tally:
    """Every XML file of a folder or an archive, as an entry or as a count of what was dropped.

    A report's uid stands for its patient: OpenI tells no more. Raises PrepareError when there are no reports
    or no films.
    """
    tally = Tally()
    films = {file.stem: file for file in sorted(images.rglob("*")) if file.suffix.lower() in _FILMS}
    if not films:
        raise PrepareError(f"{images} holds no films ({', '.join(_FILMS)})")
    documents = list(_documents(reports))
    if not documents:
        raise PrepareError(f"{reports} holds no XML reports")
    for _, content in tqdm(documents, "Read reports", unit="report", disable=None):
        _add(content, films, images, section, seed, tally)
    return tally


def split_of(uid: str, seed: int) -> str:
    """70 % train, 10 % val, 20 % test, by a hash of the uid: a report added later moves no other."""
    part = int.from_bytes(hashlib.sha256(f"{seed}:{uid}".encode()).digest()[:8]) / 2**64
    return "train" if part < 0.7 else "val" if part < 0.8 else "test"


def _documents(reports: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the XML files, in the order of their names."""
    if reports.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(reports.rglob("*.xml")))
        return
    with tarfile.open(reports) as archive:
        members = [member for member in archive if member.isfile() and member.name.endswith(".xml")]
        for member in sorted(members, key=lambda member: member.name):
            stream = archive.extractfile(member)
            if stream is not None:
                yield member.name, stream.read()


def _add(
    content: bytes, films: dict[str, Path], images: Path, section: Section, seed: int, tally: Tally
) -> None:
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        tally.drop("reports that are not XML")
        return
    uid, text = root.find("uId"), _text(root, section)
    names = [image.get("id", "") for image in root.iter("parentImage")]
    there = [films[name].relative_to(images).as_posix() for name in names if name in films]
    if len(there) < len(names):
        tally.drop("films without a file", len(names) - len(there))
    if uid is None or not uid.get("id"):
        tally.drop("studies without a uid")
    elif text is None:
        tally.drop(
            "studies without the section" if section is not Section.both else "studies without both sections"
        )
    elif not there:
        tally.drop("studies without a film")
    else:
        name = uid.get("id", "")
        tally.add(split_of(name, seed), name, text, there, name)


def _text(root: ElementTree.Element, section: Section) -> str | None:
    wanted = [Section.findings, Section.impression] if section is Section.both else [section]
    found = {part.get("Label", "").lower(): "".join(part.itertext()) for part in root.iter("AbstractText")}
    texts = [" ".join(found.get(part.value, "").split()) for part in wanted]
    return " ".join(texts) if all(texts) else None
