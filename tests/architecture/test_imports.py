"""What a part may load: a small core, and a gateway without the head-end's libraries."""

import subprocess
import sys

import pytest

# What the core, `pip install openami` and nothing more, must do without.
OPTIONAL = (
    "paho",
    "pymodbus",
    "serial",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "structlog",
    "asyncpg",
    "cryptography",
)
# What a gateway with 60 MB must never load. (structlog takes rich where it finds it, as here among the
# tools; a gateway's installation has none.)
HEAVY = ("pydantic", "fastapi", "sqlalchemy", "asyncpg", "jinja2")


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages a fresh interpreter has loaded after a statement."""
    code = f"{statement}; import sys; print('\\n'.join({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import openami",
        "import openami.profile",
        "import openami.spec",
        "import openami.cli.check",
        "import openami.cli.spec",
        "import openami.cli.conformance_vectors",
    ],
)
def test_the_core_loads_on_a_bare_install(statement: str) -> None:
    assert not loaded_by(statement).intersection(OPTIONAL)


def test_the_gateway_loads_nothing_of_the_head_end() -> None:
    loaded = loaded_by("import openami.gateway.main, openami.gateway.drivers.modbus")
    assert not loaded.intersection(HEAVY)


def test_the_bridge_loads_nothing_of_gateway_or_head_end() -> None:
    loaded = loaded_by("import openami.bridge.main")
    assert not loaded.intersection({*HEAVY, "pymodbus", "serial", "starlette", "cryptography"})


def test_the_head_end_loads_nothing_of_the_gateway() -> None:
    loaded = loaded_by("import openami.headend.main")
    assert not loaded.intersection({"pymodbus", "serial", "starlette"})
