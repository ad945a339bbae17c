"""The field's words, and no names that say nothing."""

from pathlib import Path

import openami

SOURCE = Path(openami.__file__).parent
EMPTY_NAMES = {"utils", "util", "common", "helpers", "core", "manager", "base", "misc"}


def test_no_file_or_folder_has_an_empty_name() -> None:
    names = {part for path in SOURCE.rglob("*") for part in path.relative_to(SOURCE).parts}
    assert not {name.removesuffix(".py") for name in names} & EMPTY_NAMES


def test_only_a_composition_root_catches_everything() -> None:
    catching = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.name != "main.py"
        and any(
            line.strip().startswith(("except Exception", "except BaseException", "except:"))
            for line in path.read_text().splitlines()
        )
    ]
    assert not catching
