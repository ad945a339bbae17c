"""How the long-running programs log: to stderr, one event a line, and no secret in it.

An event's name is a constant of the program, so that it can be counted and alarmed on; what differs from one time
to the next stands beside it. A person on a terminal reads text, everything else reads JSON.
"""

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

# What a secret is called; whoever logs it by such a name has made a mistake that is mended here.
_SECRET_NAMES: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|cookie|authorization|private_key|totp|nonce", re.IGNORECASE
)
# What a secret looks like within a sentence: an API token, a bearer, the password in a URL, a key in PEM.
_SECRET_SHAPES: Final = re.compile(
    r"oami_[\w-]+"
    r"|(?<=bearer )[\w.~+/=-]+"
    r"|(?<=://)(?P<user>[^\s/:@]*):[^\s/@]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.IGNORECASE | re.DOTALL,
)
_HIDDEN: Final = "(hidden)"

Event = MutableMapping[str, Any]


def configure_logs() -> None:
    """Log for a person on a terminal; as JSON elsewhere. OPENAMI_LOG=text or json overrules it.

    What libraries and drivers say by the standard library's `logging` comes out in the same form, from warnings on.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_secrets,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if logs_as_json(os.environ.get("OPENAMI_LOG", ""), on_terminal=sys.stderr.isatty())
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.ExtraAdder(),
                structlog.processors.format_exc_info,
                *shared,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[others], force=True)


def logs_as_json(wanted: str, *, on_terminal: bool) -> bool:
    """Return whether logs are for machines: where no person reads along, unless somebody says otherwise."""
    return wanted == "json" if wanted in ("json", "text") else not on_terminal


def without_secrets(_logger: object, _method: str, event: Event) -> Event:
    """Hide what is called, or looks, like a secret."""
    return {
        name: _HIDDEN if _SECRET_NAMES.search(name) else _hidden(value)
        for name, value in event.items()
    }


def _hidden(value: object) -> object:
    if isinstance(value, str):
        return _SECRET_SHAPES.sub(_cover, value)
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    return value


def _cover(found: re.Match[str]) -> str:
    user = found["user"]
    return _HIDDEN if user is None else f"{user}:{_HIDDEN}"
