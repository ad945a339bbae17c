"""A record for people: the same facts as text and as one page of HTML (pure).

Neither proves anything; both carry the SHA-256 of the file that does.
"""

from collections.abc import Iterator, Sequence
from html import escape

from openami.sip.commissioning import (
    Bench,
    BenchVerdict,
    Content,
    LoadTest,
    Point,
    RuleVerdict,
    Tick,
    open_points,
)

Section = tuple[str, Sequence[Sequence[str]]]
"""A heading, and its rows; the first row names the columns."""


def verdict_of(content: Content) -> str:
    """Return the record's verdict in words."""
    still_open = open_points(content)
    if still_open:
        return f"NOT ACCEPTED: {len(still_open)} open"
    if content.deviations:
        return f"accepted, with {len(content.deviations)} deviations"
    return "accepted"


def record_text(content: Content, sha256: str) -> str:
    """Return the record as lines of text."""
    lines = [
        f"Commissioning record of {content.feeder_id}/{content.gateway_id}",
        f"{verdict_of(content)}. Made {content.made_at:%Y-%m-%d %H:%M} UTC by {content.made_by}, "
        f"openami {content.openami}",
        f"SHA-256 of the signed file: {sha256}",
        f"SHA-256 of the configuration: {content.configuration_sha256}",
    ]
    for heading, rows in sections(content):
        lines += ["", heading]
        lines += ["  " + " | ".join(cell for cell in row if cell) for row in rows[1:]]
    return "\n".join(lines) + "\n"


def record_html(content: Content, sha256: str) -> str:
    """Return the record as one page, to be printed and signed by hand as well."""
    parts = [
        "<!doctype html>\n",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(content.gateway_id)}: commissioning</title>",
        "<style>body{font:1rem/1.4 system-ui,sans-serif;margin:1rem auto;max-width:60rem;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;"
        "border-top:1px solid #888;overflow-wrap:anywhere}code{overflow-wrap:anywhere}</style></head><body>",
        f"<h1>{escape(content.feeder_id)}/{escape(content.gateway_id)}: commissioning</h1>",
        f"<p><strong>{escape(verdict_of(content))}</strong></p>",
        f"<p>Made {content.made_at:%Y-%m-%d %H:%M} UTC by {escape(content.made_by)}, openami "
        f"{escape(content.openami)}. What proves it is the signed file with the SHA-256 "
        f"<code>{escape(sha256)}</code>; the configuration has "
        f"<code>{escape(content.configuration_sha256)}</code>.</p>",
    ]
    for heading, rows in sections(content):
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows[1:]
        )
        parts.append(
            f"<h2>{escape(heading)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
    return "".join([*parts, "</body></html>\n"])


def sections(content: Content) -> Iterator[Section]:
    """Yield the record's parts: what is open first."""
    yield _open("Open", open_points(content))
    yield (
        "Deviations that somebody answers for",
        [
            ("rule", "about", "reason", "who"),
            *(
                (each.rule, each.about, each.reason, f"{each.by}, {each.at:%Y-%m-%d %H:%M}")
                for each in content.deviations
            ),
        ],
    )
    ticks = {tick.meter: tick for tick in content.walk}
    yield (
        f"Meters: {len(content.meters)}",
        [
            ("serial", "line", "map", "left", "load"),
            *(
                (
                    meter.serial,
                    f"{meter.line}, {meter.driver}",
                    _map(meter.map, meter.map_sha256),
                    *_left(ticks.get(meter.serial)),
                )
                for meter in content.meters
            ),
        ],
    )
    yield _bench(content.bench)
    acceptance = content.acceptance
    if acceptance is not None:
        rank = (RuleVerdict.FAIL, RuleVerdict.WARN, RuleVerdict.PASS)
        ordered = sorted(acceptance.results, key=lambda result: rank.index(result.verdict))
        yield (
            f"First hour: {acceptance.began_at:%Y-%m-%d %H:%M} to {acceptance.ended_at:%H:%M} UTC",
            [
                ("verdict", "rule", "meter", "measured", "remedy"),
                *((r.verdict.value, r.rule, r.meter, r.measured, r.remedy) for r in ordered),
            ],
        )


def _open(heading: str, points: Sequence[Point]) -> Section:
    rows = [(point.rule, point.about, point.words) for point in points]
    return heading, [("rule", "about", "what"), *(rows or [("nothing", "", "")])]


def _bench(bench: Bench | None) -> Section:
    if bench is None:
        return "Bench", [("scan",), ("no line was scanned",)]
    found = sum(1 for each in bench.findings if each.verdict is BenchVerdict.FOUND)
    others = [
        (each.line, each.address, each.verdict.value, each.meter or "", each.words)
        for each in bench.findings
        if each.verdict is not BenchVerdict.FOUND
    ]
    return (
        f"Bench, {bench.at:%Y-%m-%d %H:%M} UTC: {found} of {len(bench.findings)} as configured",
        [("line", "address", "verdict", "meter", "what"), *others],
    )


def _map(name: str | None, sha256: str | None) -> str:
    return f"{name or 'the driver knows'}{f' {sha256[:12]}' if sha256 else ''}"


def _left(tick: Tick | None) -> tuple[str, str]:
    if tick is None:
        return "nobody was there", ""
    note = f": {tick.note}" if tick.note else ""
    return (
        f"{tick.outcome.value} by {tick.by}, {tick.at:%H:%M} ({tick.identified.value}){note}",
        _load(tick.load),
    )


def _load(load: LoadTest | None) -> str:
    if load is None:
        return "not switched"
    elsewhere = f" at {', '.join(load.elsewhere)}" if load.elsewhere else ""
    return f"{load.load_w} W: {load.verdict.value}{elsewhere}"
