"""How the console speaks to a person: their language's words, numbers and times (gettext and CLDR).

A catalogue is ``locale/<language>/LC_MESSAGES/console.po`` beside this file; what it does not have is English.
"""

import io
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_skeleton, format_timedelta, get_datetime_format
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import NumberPattern

# The language of the source. For its numbers and days the world's English, not the United States'.
SOURCE: Final = "en"
_WORLD_ENGLISH: Final = "en_001"
# A browser sends three or four; a longer list is nobody's wish.
LANGUAGES_ASKED_MAX: Final = 20
# A long enough header for those; what is behind is not read.
ACCEPT_LANGUAGE_BYTES_MAX: Final = 512


@dataclass(frozen=True)
class Speech:
    """One language: its words and CLDR's rules for it."""

    language: str
    """As in ``lang="…"``, with a hyphen."""
    locale: Locale
    translations: NullTranslations

    @property
    def direction(self) -> str:
        """Return ``ltr`` or ``rtl``."""
        return str(self.locale.text_direction)

    def gettext(self, text: str) -> str:
        """Return a sentence in this language."""
        return self.translations.gettext(text)

    def moment(self, at: datetime, zone: tzinfo | str | None = None) -> str:
        """Return day and time on the feeder's clock: 22 Jun 2026, 14:45."""
        # How a language puts a time beside a day, as babel.dates.format_datetime does it.
        pattern = str(get_datetime_format("medium", locale=self.locale)).replace("'", "")
        return pattern.replace("{0}", self.clock(at, zone)).replace("{1}", self.day(at, zone))

    def day(self, at: datetime, zone: tzinfo | str | None = None) -> str:
        """Return the day: 22 Jun 2026."""
        return str(format_date(at.astimezone(zone_of(zone)), "medium", locale=self.locale))

    def daymonth(self, at: datetime, zone: tzinfo | str | None = None) -> str:
        """Return the day without its year, for axes: 22 Jun."""
        return str(format_skeleton("MMMd", at, zone_of(zone), locale=self.locale))

    def clock(self, at: datetime, zone: tzinfo | str | None = None) -> str:
        """Return the time of day, of 24 hours: 14:45."""
        return str(format_skeleton("Hm", at, zone_of(zone), locale=self.locale))

    def ago(self, at: datetime, now: datetime) -> str:
        """Return how long it is: 4 min ago. A moment in the future, by a wrong clock, is said as such."""
        return str(
            format_timedelta(
                at - now, add_direction=True, format="short", threshold=1.0, locale=self.locale
            )
        )

    def duration(self, long: timedelta) -> str:
        """Return a length of time in its largest unit: 3 hr."""
        return str(format_timedelta(long, format="short", threshold=1.0, locale=self.locale))

    def number(self, value: float | Decimal, digits: int = 0) -> str:
        """Return a number with so many digits behind the point."""
        return str(_pattern(self.locale, digits).apply(value, self.locale))


@lru_cache(maxsize=256)  # a few digits for each language and region that is asked for
def _pattern(locale: Locale, digits: int) -> NumberPattern:
    """Return a language's pattern of numbers, with its own grouping: 12,34,567 in India."""
    pattern = copy(locale.decimal_formats[None])
    assert isinstance(pattern, NumberPattern)
    pattern.frac_prec = (digits, digits)
    return pattern


def zone_of(zone: tzinfo | str | None) -> tzinfo:
    """Return a time zone by its name; UTC for none, and for one this machine does not know."""
    if isinstance(zone, tzinfo):
        return zone
    try:
        return ZoneInfo(zone) if zone else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


@cache
def catalogues() -> dict[str, Traversable]:
    """Return the catalogues there are, by language."""
    home = files(__package__) / "locale"
    if not home.is_dir():
        return {}
    found = {entry.name: entry / "LC_MESSAGES" / "console.po" for entry in home.iterdir()}
    return {language: path for language, path in sorted(found.items()) if path.is_file()}


def languages() -> Sequence[str]:
    """Return the languages the console speaks, English first."""
    return (SOURCE, *(language for language in catalogues() if language != SOURCE))


@cache
def _words(language: str) -> NullTranslations:
    if (path := catalogues().get(language)) is None:
        return NullTranslations()
    with path.open("rb") as text:
        catalogue = read_po(text, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)


# Territories of the languages there are; a stranger's invented ones are not kept.
_SPEECHES: Final[dict[str, Speech]] = {}
# Of four languages there are some 200 regions, of which a site meets a handful.
SPEECHES_KEPT_MAX: Final = 64


def speech(language: str) -> Speech:
    """Return a language by a name that `language_of` gave."""
    if (known := _SPEECHES.get(language)) is not None:
        return known
    spoken = language.partition("-")[0]
    locale = Locale.parse(_WORLD_ENGLISH if language == SOURCE else language.replace("-", "_"))
    made = Speech(language, locale, _words(spoken))
    if len(_SPEECHES) < SPEECHES_KEPT_MAX:
        _SPEECHES[language] = made
    return made


def language_of(chosen: str | None, accept: str) -> str:
    """Return the language to speak: the one chosen, or else the first asked for that there is, or English.

    A region (``en-IN``, ``fr-SN``) is kept where CLDR knows it, for numbers and days.
    """
    wanted = [chosen] if chosen else []
    wanted += _asked(accept[:ACCEPT_LANGUAGE_BYTES_MAX])
    for tag in wanted:
        spoken, _, region = tag.replace("_", "-").partition("-")
        if (spoken := spoken.lower()) in languages():
            return _with_region(spoken, region)
    return SOURCE


def _with_region(language: str, region: str) -> str:
    """Only CLDR's own pairs are kept: no header makes this machine remember what it invents."""
    if region and len(region) == 2 and region.isascii() and region.isalpha():
        try:
            return str(Locale.parse(f"{language}_{region.upper()}")).replace("_", "-")
        except (UnknownLocaleError, ValueError):
            pass
    return language


def _asked(accept: str) -> list[str]:
    """Return the languages of an Accept-Language header (RFC 9110, 12.5.4), the dearest first."""
    weighed: list[tuple[float, str]] = []
    for part in accept.split(",")[:LANGUAGES_ASKED_MAX]:
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((float(weight or 1), tag.strip()))
        except ValueError:
            continue
    weighed.sort(key=lambda pair: -pair[0])
    return [tag for weight, tag in weighed if weight > 0 and tag not in ("", "*")]
