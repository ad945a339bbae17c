"""``python -m openami``: the same command."""

import sys

# structlog imports rich where there is one, a tenth of every start, to draw tracebacks that no log of ours has.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from openami.cli import main  # noqa: E402 - structlog comes with it

main()
