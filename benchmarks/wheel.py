"""Build the wheel, install it into a clean environment, and run it from another folder.

The environment sees the packages of the one that runs this script, but not this checkout.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _run([sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(ROOT)], ROOT)
        wheel = next(place.glob("*.whl"))
        names = zipfile.ZipFile(wheel).namelist()
        for wanted in (
            "r2g/conf/config.yaml",
            "r2g/weights/tiny_llm/model.safetensors",
            "r2g/chexpert/cues.yaml",
        ):
            if wanted not in names:
                sys.exit(f"the wheel lacks {wanted}")
        ours = {f"r2g/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
        if strange := ours ^ {name for name in names if name.startswith("r2g/conf/")}:
            sys.exit(f"conf/ and the wheel's copy differ: {sorted(strange)}")
        home = place / "env"
        venv.create(home, with_pip=True)
        python = home / "bin" / "python"
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], place)
        libraries = next((home / "lib").glob("python*/site-packages"))
        shared = Path(sysconfig.get_paths()["purelib"])
        kept = [e for e in shared.iterdir() if not e.name.startswith(("r2g", "_r2g", "__editable__"))]
        for entry in kept:
            target = libraries / entry.name
            if not target.exists() and entry.suffix != ".pth":
                target.symlink_to(entry)
        _run([str(python), "-m", "r2g.run", "--help"], place)
        _run([str(python), "-m", "r2g.run", "+experiment=smoke"], place)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, help and smoke run from another folder")


def _run(call: list[str], place: Path) -> None:
    done = subprocess.run(call, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(call)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    main()
