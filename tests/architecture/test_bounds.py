"""Nothing grows without bound, and no bound stands without its reason (promise 6)."""

import ast
import re
from pathlib import Path

import pytest

import openami

SOURCE = Path(openami.__file__).parent
# A limit by its name: a maximum, or a quantity with its unit last.
_BOUND = re.compile(r"_?[A-Z][A-Z0-9_]*_(MAX|MIN|S|MS|MINUTES|HOURS|DAYS|BYTES)")


def bounds() -> list[tuple[Path, str, int]]:
    """Return every named bound of the package: file, name, line."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            found.extend(
                (path, target.id, node.lineno)
                for target in targets
                if isinstance(target, ast.Name) and _BOUND.fullmatch(target.id)
            )
    return found


def test_there_are_bounds() -> None:
    assert len(bounds()) > 10


@pytest.mark.parametrize(
    ("path", "name", "line"), [pytest.param(*b, id=f"{b[0].stem}.{b[1]}") for b in bounds()]
)
def test_a_bound_has_its_reason_beside_it(path: Path, name: str, line: int) -> None:
    lines = path.read_text().splitlines()
    at = line - 1
    beside = "#" in lines[at] or (at + 1 < len(lines) and lines[at + 1].startswith('"""'))
    # One comment may give the reason for a block of bounds that stand together.
    while at > 0 and lines[at - 1].strip() and not lines[at - 1].startswith("#"):
        at -= 1
    above = at > 0 and lines[at - 1].startswith("#")
    assert beside or above, f"{path.name}:{line}: {name} says no reason"


def test_no_queue_without_a_size() -> None:
    unbounded = re.compile(r"\b(Queue|deque|LifoQueue|PriorityQueue|SimpleQueue)\(\s*\)")
    found = [
        f"{path.name}:{number}"
        for path in SOURCE.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unbounded.search(line) and "bound" not in line
    ]
    assert not found, f"name the bound: {found}"


def test_assertions_stay_on() -> None:
    """They state invariants in production too, so nothing of ours may start Python with -O."""
    root = SOURCE.parent.parent
    for path in [root / "Makefile", *root.glob("deploy/**/*")]:
        if path.is_file():
            assert not re.search(r"python3? -O|PYTHONOPTIMIZE", path.read_text())
