"""One module of ours, imported from other source than stands in its file: a mutant in a process of its own.

Nothing is written: the file stays as it is, and so does every other process.
"""

import ast
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).parent.parent
SOURCES: Final = ROOT / "src"


def alter(path: Path, altered: Callable[[str], ast.Module]) -> None:
    """Let the module of this file be imported, from now on, as what ``altered`` makes of its text."""
    assert module_of(path) not in sys.modules, "it has been imported as it is"
    sys.meta_path.insert(0, _Finder(path, altered))


def module_of(path: Path) -> str:
    """Return the name under which a source file is imported."""
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts)


class _Finder(MetaPathFinder, Loader):
    def __init__(self, path: Path, altered: Callable[[str], ast.Module]) -> None:
        self._path = path
        self._altered = altered

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != module_of(self._path):
            return None
        return spec_from_loader(fullname, self, origin=str(self._path))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        tree = ast.fix_missing_locations(self._altered(self._path.read_text("utf-8")))
        exec(compile(tree, str(self._path), "exec"), module.__dict__)  # noqa: S102 - our own source
