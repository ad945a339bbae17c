// Says the truth about the stream, and keeps "4 min ago" true. All else a page does without script.
(() => {
  const pill = document.getElementById("live");
  const lang = document.documentElement.lang;
  const skew = Date.now() - Date.parse(document.body.dataset.now);
  if (pill && pill.dataset.beat) {
    let heard = Date.now();
    let begun = false;
    const hear = () => { heard = Date.now(); begun = true; };
    for (const name of ["beat", "htmx:sse:after:connection", "htmx:sse:after:message"])
      document.addEventListener(name, hear);
    const seconds = new Intl.NumberFormat(lang, { style: "unit", unit: "second", unitDisplay: "short" });
    const minutes = new Intl.NumberFormat(lang, { style: "unit", unit: "minute", unitDisplay: "short" });
    const show = () => {
      const s = Math.round((Date.now() - heard) / 1000);
      const stale = s > 2.5 * pill.dataset.beat;
      const text = stale
        ? pill.dataset.stale.replace("{time}", s < 120 ? seconds.format(s) : minutes.format(Math.floor(s / 60)))
        : begun ? pill.dataset.live : pill.dataset.joining;
      pill.className = stale ? "live stale" : begun ? "live" : "live joining";
      if (pill.textContent !== text) pill.textContent = text;
    };
    setInterval(show, 1000);
    document.addEventListener("htmx:sse:after:connection", show);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) show(); });
  }
  const relative = new Intl.RelativeTimeFormat(lang, { style: "short", numeric: "always" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  setInterval(() => {
    const now = Date.now() - skew;
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const s = Math.round((Date.parse(time.dateTime) - now) / 1000);
      const [unit, size] = units.find(([, size]) => Math.abs(s) >= size) || units[3];
      time.textContent = relative.format(Math.trunc(s / size), unit);
    }
  }, 30000);
})();
