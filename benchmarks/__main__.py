"""``make bench``: every benchmark in turn, each in a process of its own; one JSON object a line.

PostgreSQL is measured where OPENAMI_BENCH_POSTGRES names a server whose databases may be made and dropped.
"""

import os
import subprocess
import sys

ALWAYS = (
    ("bench_decode",),
    ("bench_outbox",),
    ("bench_store",),
    ("bench_ingest", "sqlite"),
    ("bench_gateway_idle",),
    ("bench_line",),
    ("bench_command",),
    ("bench_world",),
    ("bench_theft",),
    ("bench_pages", "sqlite"),
    ("bench_closed", "sqlite"),
    ("bench_judge",),
    ("bench_door",),
)
WITH_POSTGRES = (
    ("bench_ingest", "postgres"),
    ("bench_pages", "postgres"),
    ("bench_closed", "postgres"),
)


def main() -> int:
    """Run them; return 1 if one failed."""
    wanted = ALWAYS + (WITH_POSTGRES if "OPENAMI_BENCH_POSTGRES" in os.environ else ())
    failed = False
    for name, *arguments in wanted:
        print(f"# python -m benchmarks.{name} {' '.join(arguments)}".rstrip(), flush=True)
        run = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False)
        failed = failed or run.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
