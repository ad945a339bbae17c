"""What every page of the walk has (pure): where one is, who is signed in, what came of the last press."""

from dataclasses import dataclass
from datetime import datetime
from html import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What every page has."""

    gateway_id: str
    now: datetime
    by: str | None
    """Who is signed in on this phone; None: nobody, and there is nothing to press."""
    said: str = ""
    """What came of the last press."""


def form(action: str, inner: str) -> str:
    """Return a form that is sent to one of the walk's own routes."""
    return f'<form method="post" action="{action}">{inner}</form>'


def page(frame: Frame, title: str, body: str) -> str:
    """Return a whole page around its body."""
    who = (
        '<a href="walk-sign-in">Sign in to tick</a>'
        if frame.by is None
        else escape(frame.by) + form("walk-sign-out", '<button class="second">Sign out</button>')
    )
    said = f'<p class="said" role="status">{escape(frame.said)}</p>' if frame.said else ""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · {escape(frame.gateway_id)}</title>"
        '<link rel="stylesheet" href="style.css"></head><body>'
        '<header><p><a href="walk">Walk</a> · <a href=".">Status</a> · <a href="">Look again</a> · '
        f"{escape(frame.gateway_id)} · {frame.now:%H:%M:%S} UTC</p><h1>{escape(title)}</h1></header>"
        f"<main>{said}{body}</main><footer>{who}</footer></body></html>\n"
    )
