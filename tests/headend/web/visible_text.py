"""What of a page a person reads: its texts, and the attributes that are read out or shown."""

from html.parser import HTMLParser
from typing import Final

# What says of itself that it is English, says so on purpose: evidence, and what a vendor is to be sent.
SOURCE: Final = "en"
# Shown when pointed at, read out, or put where text will be typed.
SHOWN_ATTRIBUTES: Final = ("title", "aria-label", "placeholder", "alt", "label")
# What is for a machine, or to be typed exactly as it stands.
_NOT_PROSE: Final = frozenset({"script", "style", "code", "pre", "textarea"})
_VOID: Final = frozenset(
    {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        # Whether each element that is open says nothing to be translated.
        self._open: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if told.get("lang") != SOURCE:
            self.texts += [text for name in SHOWN_ATTRIBUTES if (text := told.get(name))]
        if tag == "input" and told.get("type") in ("submit", "button") and told.get("value"):
            self.texts.append(told["value"] or "")
        if tag not in _VOID:
            self._open.append((tag, tag in _NOT_PROSE or told.get("lang") == SOURCE))

    def handle_endtag(self, tag: str) -> None:
        if any(tag == name for name, _ in self._open):
            while self._open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not any(unread for _, unread in self._open) and data.strip():
            self.texts.append(" ".join(data.split()))


def visible_texts(html: str) -> list[str]:
    """Return a page's texts in their order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.texts
