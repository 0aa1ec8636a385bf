"""The Makefile: every target is explained by `make help`."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_help_explains_every_target() -> None:
    text = _MAKEFILE.read_text()
    targets = set(re.findall(r"^([A-Za-z][\w-]*):", text, re.MULTILINE))
    assert targets == set(re.findall(r"\S+", text.partition(".PHONY:")[2].partition("\n")[0]))
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=_MAKEFILE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    explained = dict(re.findall(r"^  make (\S+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert set(explained) == targets


def test_every_install_of_the_checkout_is_editable() -> None:
    """A plain `pip install .` would put a copy into .venv, which goes stale with the next change."""
    lines = [
        line for line in _MAKEFILE.read_text().splitlines() if re.search(r"pip install .*'?\.(\[|'|$)", line)
    ]
    assert len(lines) >= 2
    assert all("--editable" in line for line in lines)
