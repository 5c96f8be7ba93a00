// Shows a chart's values where the pointer is, from the table that has the same numbers.

document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest?.("svg.chart[data-width]");
  if (chart) show(chart, event.clientX);
  else hide();
});

function show(chart, pointerX) {
  const rows = [...document.querySelectorAll(`#${chart.id}-rows tbody tr`)];
  const times = rows.map((row) => Date.parse(row.querySelector("time").dateTime));
  const box = chart.getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (pointerX - box.left) / box.width));
  const wanted = times[0] + share * (times.at(-1) - times[0]);
  const nearest = times.reduce((best, time, at) => (Math.abs(time - wanted) < Math.abs(times[best] - wanted) ? at : best), 0);
  const x = ((times[nearest] - times[0]) / (times.at(-1) - times[0])) * Number(chart.dataset.width);
  const line = chart.querySelector(".hover");
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  line.setAttribute("visibility", "visible");
  document.querySelector(`[data-values-of="${chart.id}"]`).textContent = words(rows[nearest]);
}

function words(row) {
  const names = [...row.closest("table").querySelectorAll("thead th")].slice(1);
  const values = [...row.querySelectorAll("td")];
  const shown = names.map((name, at) => `${name.textContent}: ${values[at].textContent}`);
  return `${row.querySelector("time").textContent} · ${shown.join(" · ")}`;
}

function hide() {
  for (const line of document.querySelectorAll(".chart .hover")) line.setAttribute("visibility", "hidden");
  for (const values of document.querySelectorAll("[data-values-of]")) values.textContent = "";
}
