"""Is every refusal of a signed document noticed when it is gone?

    make mutants                                    all of them; survivors are listed, exit code 1
    python -m tools.mutants --sample 10             ten of them, the same ten every day
    python -m tools.mutants --only handshake        those of one module

Each ``raise`` in ``openami.sip`` and in the gateway's handshake is taken out in turn, and the tests of signed
documents have to fail. A refusal that nobody misses is either not tested or not needed. What is covered by a second
check with the same answer is listed in ``COVERED``, with the reason.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tools.altered_module import ROOT, SOURCES, alter, module_of

SOURCE: Final = SOURCES / "openami"
TARGETS: Final = [*sorted((SOURCE / "sip").glob("*.py")), SOURCE / "gateway" / "handshake.py"]
# Written by the head-end's keyring desk and tested there.
NOT_HERE: Final = {"keyring_draft.py"}
MUTANT: Final = "OPENAMI_MUTANT"
WORKERS: Final = 2
# A whole run of these tests takes some 10 s; a mutant that loops for ever is noticed, too.
TIMEOUT_S: Final = 120
# The quick ones first: a mutant is done with at the first test that misses it.
TESTS: Final = ["tests/headend/test_market.py", "tests/lives", "tests/sip"]

COVERED: Final[dict[str, str]] = {
    "acts._read_act: raise SipError(SipCode.BAD_SIGNATURE,"
    " f'a signature has {_SIGNATURE_BYTES} bytes')": (
        "the verifier says BAD_SIGNATURE of any other length, too; refused before keys are looked up"
    ),
    "keyring._root_threshold: raise fields.bad('feederScope/rootThreshold',"
    " 'only with roots to pin')": "a number from 1 to 0 is BAD_FIELD, too; this one says why",
    "keyring._next_roots: raise fields.bad('feederScope/rootThreshold',"
    " f'{threshold} of {len(new)} roots cannot sign')": (
        "Roots refuses such pins with BAD_FIELD, wherever they come from; this one says where"
    ),
}
"""A refusal's place, as ``module function: message``, and why its absence changes nothing."""


@dataclass(frozen=True)
class Mutant:
    """One refusal: its module, and the place of its statement."""

    path: Path
    line: int
    column: int
    name: str

    @property
    def module(self) -> str:
        return module_of(self.path)

    @property
    def text(self) -> str:
        return f"{self.module}:{self.line}:{self.column}"


def mutants() -> Iterator[Mutant]:
    """Yield every refusal of the targets."""
    for path in TARGETS:
        if path.name in NOT_HERE:
            continue
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in _own_raises(function):
                    name = f"{path.stem}.{function.name}: {ast.unparse(node)}"
                    yield Mutant(path, node.lineno, node.col_offset, name)


def _own_raises(function: ast.FunctionDef) -> Iterator[ast.Raise]:
    """Yield the raises of a function, without those of functions within it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node
        elif not isinstance(node, ast.FunctionDef):
            waiting.extend(ast.iter_child_nodes(node))


# --- in the child: import the module without the refusal ---------------------------------------------


class _Without(ast.NodeTransformer):
    def __init__(self, line: int, column: int) -> None:
        self.place = (line, column)
        self.removed = 0

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        if (node.lineno, node.col_offset) != self.place:
            return node
        self.removed += 1
        return ast.copy_location(ast.Pass(), node)


def _without(source: str, *, line: int, column: int) -> ast.Module:
    without = _Without(line, column)
    tree = ast.parse(source)
    without.visit(tree)
    assert without.removed == 1
    return tree


def _child(text: str) -> int:
    import pytest

    if text:
        module, line, column = text.split(":")
        path = SOURCES / Path(*module.split(".")).with_suffix(".py")
        alter(path, partial(_without, line=int(line), column=int(column)))
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, *TESTS]))


# --- in the parent -----------------------------------------------------------------------------------


def _passes(mutant: str) -> bool:
    """Whether the tests pass without this refusal; with an empty text, with all of them."""
    command = [sys.executable, "-m", "tools.mutants", "--child"]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, MUTANT: mutant},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every mutant is noticed, 1 when not, 2 when the tests fail anyhow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sample", type=int, help="every n-th only, so that this many are tried")
    parser.add_argument("--only", default="", help="a part of the module's name")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return _child(os.environ.get(MUTANT, ""))
    found = [mutant for mutant in mutants() if options.only in mutant.module]
    if options.sample:
        found = found[:: max(1, len(found) // options.sample)][: options.sample]
    if not _passes(""):
        print(f"the tests fail as it is, so nothing can be learned: pytest {' '.join(TESTS)}")
        return 2
    with ThreadPoolExecutor(WORKERS) as pool:
        passing = pool.map(_passes, [mutant.text for mutant in found])
        survivors = [m for m, passes in zip(found, passing, strict=True) if passes]
    unexpected = [mutant for mutant in survivors if mutant.name not in COVERED]
    for mutant in survivors:
        reason = COVERED.get(mutant.name, "NOBODY MISSES IT")
        print(f"{mutant.path.relative_to(ROOT)}:{mutant.line}: {mutant.name}\n    {reason}")
    noticed = len(found) - len(survivors)
    print(f"{len(found)} refusals: {noticed} are missed when gone, {len(survivors)} are not")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
