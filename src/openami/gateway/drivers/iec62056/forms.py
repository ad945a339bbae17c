"""How a meter writes its registers: a value that is longer or shorter than ever before is not believed at once.
Pure.

A check character that adds up by exclusive or does not notice that two equal characters were lost:
``20003871.9`` may be what is left of ``20003871.339``. A meter writes each register with the same number of
digits for years. So a form that it has not had before has to be told in two read-outs in a row.
"""

import re
from collections.abc import Mapping
from typing import Final

from openami.gateway.drivers.iec62056.data_sets import Value
from openami.profile import Obis

FORMS_MAX: Final = 32
"""Of one register: a meter that writes no leading zeros has as many as it has digits."""
_digits = re.compile("[0-9]").sub


def form_of(value: Value) -> str:
    """Return what a value looks like, whatever it is: ``00000.00*kWh``."""
    return f"{_digits('0', value.text)}*{value.unit}"


class Forms:
    """The forms one meter is known to write its registers in."""

    def __init__(self) -> None:
        self._known: dict[Obis, set[str]] = {}
        self._told_once: Mapping[Obis, str] = {}

    def believed(self, told: Mapping[Obis, str]) -> bool:
        """Note the forms of a read-out; return whether each is known, or was told in the one before as well."""
        unknown = {
            obis: form for obis, form in told.items() if form not in self._known.get(obis, ())
        }
        if any(self._told_once.get(obis) != form for obis, form in unknown.items()):
            self._told_once = unknown
            return False
        for obis, form in unknown.items():
            known = self._known.setdefault(obis, set())
            if len(known) == FORMS_MAX:
                known.clear()
            known.add(form)
        self._told_once = {}
        return True
