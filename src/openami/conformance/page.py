"""The checklist as a page for a phone beside the bench (pure): one column, no resource of anybody else's.

The server makes the whole of it; a stream sends its middle anew when something changes. Without a script it loads
itself every few seconds. Shape and word and colour, never colour alone.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from openami import __version__
from openami.conformance.checklist import ORDER, SHAPES, Checklist, conclusion
from openami.conformance.judgement import Finding, Verdict

# Without a script the page loads itself; a person looks up from the bench about that often.
REFRESH_S: Final = 5
_EXCERPT_CHARS_MAX: Final = 400
_CLASSES: Final[Mapping[Verdict, str]] = {
    "failed": "bad",
    "warning": "warn",
    "not exercised": "open",
    "passed": "good",
    "not testable": "open",
}

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1a1a1a;--soft:#555;--line:#ccc;--paper:#fff;
--bad:#a3161c;--warn:#7a4b00;--good:#0b6b2f}
@media(prefers-color-scheme:dark){:root{--ink:#eee;--soft:#aaa;--line:#444;--paper:#161616;
--bad:#ff8a8a;--warn:#f0b455;--good:#6fd08c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:46rem;padding:1rem;font:1rem/1.45 system-ui,sans-serif;
color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.25rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:1.5rem 0 .5rem}
p{margin:.25rem 0}ul{list-style:none;margin:0;padding:0}
li{border-top:1px solid var(--line);padding:.5rem 0}
small,.soft{color:var(--soft)}code{font-size:.9em}
.bad{color:var(--bad)}.warn{color:var(--warn)}.good{color:var(--good)}
.ask{border:2px solid var(--ink);border-radius:.4rem;padding:.75rem;margin:1rem 0}
.ask form{display:inline-block;margin:.5rem .5rem 0 0}
button{font:inherit;min-height:2.75rem;padding:.25rem 1rem;border:1px solid var(--ink);
border-radius:.4rem;background:var(--paper);color:var(--ink)}
pre{margin:.25rem 0;white-space:pre-wrap}
.counts{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.5rem 0}
"""

SCRIPT: Final = """
"use strict";
const live = document.getElementById("live");
const state = document.getElementById("state");
const stream = new EventSource("live");
stream.onmessage = (event) => {
  const focused = document.activeElement && document.activeElement.id;
  live.innerHTML = event.data;
  if (focused) { const again = document.getElementById(focused); if (again) again.focus(); }
};
stream.onopen = () => { state.textContent = "live"; };
stream.onerror = () => { state.textContent = "not live: the kit has ended, or the link to it"; };
"""


def page(shown: Checklist) -> str:
    """Return the whole page."""
    kind = escape(shown.judgement.subject.kind)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{kind}: conformance</title><link rel="stylesheet" href="style.css"><link rel="icon" href="data:,">
<noscript><meta http-equiv="refresh" content="{REFRESH_S}"></noscript>
<script src="live.js" defer></script></head>
<body><header><h1>OpenAMI conformance: {kind}</h1>
<p class="soft">kit {escape(__version__)} · <span id="state" role="status">as of loading</span></p></header>
<main id="live">{middle(shown)}</main></body></html>
"""


def middle(shown: Checklist) -> str:
    """Return what changes of the page."""
    return "".join(
        (*_summary(shown), *_ask(shown), *_news(shown), *_findings(shown), *_acts(shown))
    )


def _summary(shown: Checklist) -> Iterator[str]:
    names = ", ".join(shown.judgement.subject.names) or shown.waits_for or ""
    yield f"<p><strong>{escape(conclusion(shown.judgement))}</strong> · {escape(names)}</p>"
    yield '<p class="counts">'
    for verdict, count in shown.counts.items():
        yield f"<span>{_badge(verdict)} {count}</span>"
    yield "</p>"


def _ask(shown: Checklist) -> Iterator[str]:
    if shown.prompt is None:
        return
    said = (("yes", "Yes"), ("no", "No")) if shown.asks_where else (("done", "It is done"),)
    yield f'<section class="ask" aria-label="To do"><p><strong>{escape(shown.prompt)}</strong></p>'
    for word, label in (*said, ("skip", "Leave it out")):
        yield f'<form method="post" action="{word}"><button id="{word}">{label}</button></form>'
    yield "</section>"


def _news(shown: Checklist) -> Iterator[str]:
    if shown.news:
        yield '<h2>Clients that were not let in</h2><ul class="warn">'
        yield from (f"<li>{escape(text)}</li>" for text in shown.news)
        yield "</ul>"


def _findings(shown: Checklist) -> Iterator[str]:
    by_verdict: dict[Verdict, list[Finding]] = {verdict: [] for verdict in ORDER}
    for finding in shown.findings:
        by_verdict[finding.verdict].append(finding)
    for verdict, findings in by_verdict.items():
        if findings:
            yield f"<h2>{_badge(verdict)}</h2><ul>"
            yield from (_finding(finding) for finding in findings)
            yield "</ul>"


def _finding(finding: Finding) -> str:
    parts = [
        f"<li><p>{escape(finding.text)}</p>",
        f"<p><small><code>{escape(finding.requirement)}</code> · {escape(finding.source)}",
        f" · seen {finding.seen}, broken {finding.broken}</small></p>",
    ]
    if finding.broken:
        for evidence in finding.evidence[:1]:
            place = f"{evidence.topic}{evidence.pointer}"
            parts.append(f"<p>{escape(evidence.detail)}</p>")
            if place:
                parts.append(f"<p><small><code>{escape(place)}</code></small></p>")
            if evidence.excerpt:
                excerpt = evidence.excerpt[:_EXCERPT_CHARS_MAX]
                parts.append(f"<pre><code>{escape(excerpt)}</code></pre>")
        parts.append(f"<p>→ {escape(finding.remedy)}</p>")
    elif finding.exercise:
        parts.append(f"<p>→ {escape(finding.exercise)}</p>")
    return "".join((*parts, "</li>"))


def _acts(shown: Checklist) -> Iterator[str]:
    if not shown.acts:
        return
    yield "<h2>What the kit does, and asks for</h2><ul>"
    for line in shown.acts:
        detail = f": {escape(line.detail)}" if line.detail else ""
        yield (
            f'<li><i aria-hidden="true">{line.shape}</i> {escape(line.title)} '
            f"<small>{escape(line.state.value)}{detail}</small></li>"
        )
    yield "</ul>"


def _badge(verdict: Verdict) -> str:
    shape = SHAPES[verdict]
    return f'<span class="{_CLASSES[verdict]}"><i aria-hidden="true">{shape}</i> {verdict}</span>'
