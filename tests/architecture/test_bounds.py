"""Nothing grows without bound, and no bound stands without its reason (promise 6)."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import openami

SOURCE = Path(openami.__file__).parent
# A limit by its name: a maximum, or a quantity with its unit last.
_BOUND = re.compile(r"_?[A-Z][A-Z0-9_]*_(MAX|MIN|S|MS|MINUTES|HOURS|DAYS|BYTES)")


# How many seconds an hour has needs no reason.
_CONVERSION = re.compile(r"_?(DAY|HOUR|MINUTE|SECOND)_(HOURS|MINUTES|S|MS)")


def _is_derived(value: ast.expr | None) -> bool:
    """Whether a value is another bound in another unit: its reason stands there."""
    assert value is not None
    return any(isinstance(n, ast.Name) and n.id.isupper() for n in ast.walk(value))


def bounds() -> list[tuple[Path, str, int]]:
    """Return every named bound of the package: file, name, line."""
    found: list[tuple[Path, str, int]] = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or isinstance(node.value, ast.Dict):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.extend(
                (path, target.id, node.lineno)
                for target in targets
                if isinstance(target, ast.Name)
                and _BOUND.fullmatch(target.id)
                and not _CONVERSION.fullmatch(target.id)
                and not _is_derived(node.value)
            )
    return found


def test_there_are_bounds() -> None:
    assert len(bounds()) > 10


def test_a_bound_has_its_reason_beside_it() -> None:
    unexplained = [
        f"{path.name}:{line}: {name}"
        for path, name, line in bounds()
        if not has_reason(path.read_text().splitlines(), line)
    ]
    assert not unexplained, "these say no reason"


def has_reason(lines: Sequence[str], line: int) -> bool:
    """Whether a comment stands beside a bound, or above it and those it stands with."""
    at = line - 1
    beside = "#" in lines[at] or (at + 1 < len(lines) and lines[at + 1].startswith('"""'))
    # One comment may give the reason for a block of bounds that stand together.
    while at > 0 and lines[at - 1].strip() and not lines[at - 1].startswith("#"):
        at -= 1
    above = at > 0 and lines[at - 1].startswith("#")
    return beside or above


def test_no_queue_without_a_size() -> None:
    """A queue whose size is kept elsewhere says where, in a comment with the word "bound"."""
    unsized = re.compile(r"\b(Queue|deque|LifoQueue|PriorityQueue|SimpleQueue)\(\s*\)")
    found = []
    for path in SOURCE.rglob("*.py"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            said = f"{lines[number - 2]} {line}" if number > 1 else line
            if unsized.search(line) and "bound" not in said.partition("#")[2]:
                found.append(f"{path.name}:{number}")
    assert not found, f"say what bounds it: {found}"


def test_assertions_stay_on() -> None:
    """They state invariants in production too, so nothing of ours may start Python with -O."""
    root = SOURCE.parent.parent
    for path in [root / "Makefile", *root.glob("deploy/**/*")]:
        if path.is_file():
            assert not re.search(r"python3? -O|PYTHONOPTIMIZE", path.read_text())
