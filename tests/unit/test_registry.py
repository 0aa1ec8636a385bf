"""The registry: exact names, files found without importing them, and clear answers to a miss."""

from pathlib import Path

import pytest

from r2g.core import registry
from r2g.core.registry import Registry, UnknownName
from r2g.core.slots import ALL


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A slot whose package lies in a folder of its own."""
    package = tmp_path / "fruits"
    package.mkdir()
    for name in ("__init__", "base", "_peel"):
        (package / f"{name}.py").touch()
    register = "from tests_fruits import FRUITS\n@FRUITS.register('{}')\nclass Fruit: ...\n"
    (package / "apple.py").write_text(register.format("apple"))
    (package / "pear.py").write_text(register.format("peach"))
    (package / "fig.py").write_text("import nothing_of_that_name\n")
    (package / "lime.py").touch()
    (tmp_path / "tests_fruits.py").write_text("FRUITS = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_ROOT", tmp_path)
    import tests_fruits

    import r2g

    slot: Registry = Registry("fruit", "fruits")
    tests_fruits.FRUITS = slot
    monkeypatch.setattr(r2g, "__path__", [*r2g.__path__, str(tmp_path)])
    yield slot
    import sys

    for module in [m for m in sys.modules if m.startswith(("r2g.fruits", "tests_fruits"))]:
        del sys.modules[module]


def test_names_are_files_and_nothing_is_imported(fruits: Registry) -> None:
    assert fruits.names() == ["apple", "fig", "lime", "pear"]


def test_a_name_gives_its_class(fruits: Registry) -> None:
    assert fruits.get("apple") is fruits.get("apple")
    assert fruits.get("apple").kind == "apple"


@pytest.mark.parametrize("name", ["appel", "Apple", "app", "apple ", "base", "_peel", "__init__"])
def test_a_miss_lists_the_choices(fruits: Registry, name: str) -> None:
    with pytest.raises(UnknownName, match=r"choices: apple, fig, lime, pear"):
        fruits.get(name)


def test_a_near_miss_names_the_nearest(fruits: Registry) -> None:
    with pytest.raises(UnknownName, match="did you mean 'apple'"):
        fruits.get("appel")


def test_a_broken_import_surfaces_as_itself(fruits: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        fruits.get("fig")


def test_a_file_that_registers_nothing_is_told(fruits: Registry) -> None:
    with pytest.raises(LookupError, match="lime.py registers no fruit"):
        fruits.get("lime")


def test_a_name_must_be_its_file(fruits: Registry) -> None:
    with pytest.raises(ValueError, match="must live in fruits/peach.py"):
        fruits.get("pear")


def test_a_duplicate_is_refused(fruits: Registry) -> None:
    found = fruits.get("apple")
    with pytest.raises(ValueError, match="registered twice"):
        fruits.register("apple")(found)


@pytest.mark.parametrize("slot", ALL, ids=lambda slot: slot.slot)
def test_every_file_of_a_slot_registers_its_name(slot: Registry) -> None:
    assert slot.names()
    for name in slot.names():
        assert slot.get(name).kind == name
