"""Where the config tree lies: beside the modules in a wheel, at the repository's root in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> str:
    """The folder of config.yaml, as an absolute path."""
    shipped = _PACKAGE / "conf"
    return str(shipped if shipped.is_dir() else _PACKAGE.parents[1] / "conf")
