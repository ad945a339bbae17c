"""Put the peers where the benchmark finds them: `benchmarks/.peers`, some 300 MB, deleted as one likes.

    python -m benchmarks.peers.install [c] [mq-bridge] [node-red]

c           cc -O2 c_subscriber.c -lmosquitto         needs: apt install gcc libmosquitto-dev
mq-bridge   pip install mq-bridge==1.2.0              into a virtual environment of its own (MIT or Apache-2.0)
node-red    npm install node-red@4.1.15 pg@8.23.1     needs: apt install nodejs npm (Apache-2.0, MIT)
"""

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parent / ".peers"
MQ_BRIDGE, NODE_RED, PG = "1.2.0", "4.1.15", "8.23.1"

C_SUBSCRIBER = PLACE / "c_subscriber"
MQ_BRIDGE_PYTHON = PLACE / "mq-bridge" / "bin" / "python"
NODE_RED_PROGRAM = PLACE / "node-red" / "node_modules" / "node-red" / "red.js"
# npm fetches 300 packages; over a slow line that takes its time.
_COMMAND_S_MAX = 900


def c_subscriber() -> None:
    """Compile the C subscriber."""
    _run("cc", "-O2", "-Wall", "-o", C_SUBSCRIBER, HERE / "c_subscriber.c", "-lmosquitto")


def mq_bridge() -> None:
    """Install mq-bridge into an environment of its own."""
    folder = PLACE / "mq-bridge"
    venv.create(folder, with_pip=True, clear=True)
    _run(folder / "bin" / "pip", "install", "--quiet", f"mq-bridge=={MQ_BRIDGE}")


def node_red() -> None:
    """Install Node-RED, and PostgreSQL's client for it."""
    folder = PLACE / "node-red"
    folder.mkdir(exist_ok=True)
    wanted = {"private": True, "dependencies": {"node-red": NODE_RED, "pg": PG}}
    (folder / "package.json").write_text(json.dumps(wanted))
    _run("npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--prefix", folder)


INSTALL: Mapping[str, Callable[[], None]] = {
    "c": c_subscriber,
    "mq-bridge": mq_bridge,
    "node-red": node_red,
}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=_COMMAND_S_MAX, stdout=sys.stderr)


def main(names: list[str]) -> int:
    """Install those named, or all; return 1 if one could not be."""
    failed = False
    PLACE.mkdir(exist_ok=True)
    for name in names or INSTALL:
        if name not in INSTALL:
            print(f"{name} is no peer; there are {', '.join(INSTALL)}", file=sys.stderr)
            return 2
        try:
            INSTALL[name]()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name} is not installed: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
