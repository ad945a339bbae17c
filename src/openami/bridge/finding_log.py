"""Findings as an operator can live with them: each kind of each pole once, and then hourly with its count."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from openami.bridge.findings import Finding, Reason
from openami.bridge.translating import Told

# What goes on for days is worth a line an hour.
SAID_AGAIN_AFTER: Final = timedelta(hours=1)
# Every pole has some forty reasons at the most; what strangers send has no pole of its own.
_STRANGER: Final = "-"
# Expected in every round of a healthy pole, and no news to anybody.
_UNSAID: Final = frozenset({Reason.NO_REGISTERS, Reason.DUPLICATE})

_log = structlog.get_logger("bridge")


@dataclass(slots=True)
class _Said:
    at: datetime
    since: int = 0


class FindingLog:
    """What was said when, so that it is not said again at once."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, Reason], _Said] = {}  # bounded by the poles and the reasons

    def say(self, told: Told) -> None:
        """Log what a message had of findings, as far as it is new."""
        for each in told.findings:
            if told.is_new:
                _log.warning(
                    "unknown pole",
                    pole=told.pole,
                    remedy="name it in a [[pole]] of the configuration, or ignore it",
                )
            elif each.reason is not Reason.UNKNOWN_POLE and each.reason not in _UNSAID:
                self._say(told, each)

    def _say(self, told: Told, each: Finding) -> None:
        key = (told.pole or _STRANGER, each.reason)
        said = self._said.get(key)
        if said is not None and told.at - said.at < SAID_AGAIN_AFTER:
            said.since += 1
            return
        _log.warning(
            "not passed on as it came",
            reason=each.reason.value,
            pole=told.pole,
            topic=told.topic[:100],
            effect=each.effect.value,
            register=each.obis,
            about=each.detail,
            times=1 if said is None else said.since + 1,
        )
        self._said[key] = _Said(told.at)
