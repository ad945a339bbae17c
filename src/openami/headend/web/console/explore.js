// The chart one can move about in: loaded on its own page and nowhere else.
(() => {
  const place = document.getElementById("explore");
  if (!place) return;
  const said = place.dataset;
  const lang = document.documentElement.lang;
  const format = (options) => new Intl.DateTimeFormat(lang, { timeZone: said.zone, hourCycle: "h23", ...options });
  const whole = format({ day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  const day = format({ day: "numeric", month: "short" });
  const clock = format({ hour: "2-digit", minute: "2-digit" });
  const number = new Intl.NumberFormat(lang, { maximumFractionDigits: 3 });
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const value = (u, v) => (v == null ? "–" : number.format(v));
  fetch(said.series, { headers: { Accept: "application/json" } }).then((answer) => answer.json()).then((data) => {
    if (!data.at.length) { place.textContent = said.empty; return; }
    // A silence longer than two steps is a gap, not a slope.
    const rows = [data.at, data.least, data.greatest, data.mean];
    for (let i = data.at.length - 1; i > 0; i--)
      if (data.at[i] - data.at[i - 1] > 2 * Math.max(data.step, 900))
        rows.forEach((row, n) => row.splice(i, 0, n ? null : data.at[i - 1] + data.step));
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
    const size = () => ({ width: place.clientWidth, height: 360 });
    const chart = new uPlot({
      ...size(),
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), said.zone),
      series: [
        { label: said.time, value: (u, v) => (v == null ? "–" : whole.format(v * 1000)) },
        { label: said.least, stroke: color("--quiet"), width: 1, value },
        { label: said.greatest, stroke: color("--quiet"), width: 1, value },
        { label: said.mean, stroke: color("--supplied"), width: 2, value },
      ],
      bands: [{ series: [2, 1], fill: color("--grid") }],
      axes: [
        { ...axis, values: (u, at, n, m, step) => at.map((ts) => (step >= 86400 ? day : clock).format(ts * 1000)) },
        { ...axis, size: 64, values: (u, vs) => vs.map((v) => number.format(v)) },
      ],
    }, rows, place);
    addEventListener("resize", () => chart.setSize(size()));
  });
})();
