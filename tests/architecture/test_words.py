"""The field's words, and no names that say nothing."""

import ast
from pathlib import Path

import openami

SOURCE = Path(openami.__file__).parent
EMPTY_NAMES = {"utils", "util", "common", "helpers", "core", "manager", "base", "misc"}


def test_no_file_or_folder_has_an_empty_name() -> None:
    names = {part for path in SOURCE.rglob("*") for part in path.relative_to(SOURCE).parts}
    assert not {name.removesuffix(".py") for name in names} & EMPTY_NAMES


def _swallows_everything(handler: ast.ExceptHandler) -> bool:
    kind = handler.type
    catches_all = kind is None or (
        isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")
    )
    return catches_all and not isinstance(handler.body[-1], ast.Raise)


# They catch for somebody else: for who waits for a thread's work, and for who leaves a disk SQLite called back.
HANDING_ON = ("virtual_time.py", "sqlite_vfs.py")


def test_only_a_composition_root_catches_everything() -> None:
    """What is caught to tidy up, and raised again, is not caught."""
    catching = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path.name != "main.py" and path.name not in HANDING_ON
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and _swallows_everything(node)
    ]
    assert not catching
