"""How the long-running programs log: to stderr, one event a line."""

import os
import sys

import structlog


def configure_logs() -> None:
    """Log for a person on a terminal or in a file; as JSON under systemd, or with OPENAMI_LOG=json."""
    as_json = os.environ.get("OPENAMI_LOG", "") == "json" or "JOURNAL_STREAM" in os.environ
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if as_json
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
