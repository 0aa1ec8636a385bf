"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = Object.keys(figures).map((key) => document.querySelector(`[data-figure="${key}"]`));
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A figure is plain data; colours of paper and ink come from the style sheet, so that light, dark and print share it.
  const axis = (own) => Object.assign({
    gridcolor: ink("--grid"), linecolor: ink("--line"), zerolinecolor: ink("--quiet"), zeroline: false, automargin: true,
    tickfont: { color: ink("--quiet") }, ticks: "",
  }, own, { title: { font: { color: ink("--quiet"), size: 13 }, standoff: 10, ...(own && own.title) } });

  const themed = (figure, wide) => {
    const layout = structuredClone(figure.layout);
    if (!wide && layout.xaxis.side === "top") layout.xaxis.tickangle = -90;
    return Object.assign({
      showlegend: true, hovermode: "closest", barmode: "overlay",
      margin: { l: 12, r: 16, t: 12, b: 12, pad: 2 },
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { size: wide ? 13 : 12 } },
      font: { family: getComputedStyle(document.body).fontFamily, size: wide ? 13 : 11, color: ink("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--line"), font: { color: ink("--ink") } },
    }, layout, { xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), width: undefined });
  };
  const painted = (figure) => figure.data.map((trace) => trace.type !== "heatmap" ? trace : {
    ...trace, colorscale: [[0, ink("--low")], [1, ink("--high")]], textfont: { color: ink("--ink") },
    colorbar: { ...trace.colorbar, tickfont: { color: ink("--quiet") } },
  });
  const draw = () => Promise.all(plots.map((plot) => {
    const figure = figures[plot.dataset.figure];
    const options = { responsive: true, displayModeBar: false, displaylogo: false, scrollZoom: false };
    return Plotly.react(plot, painted(figure), themed(figure, plot.clientWidth > 560), options);
  }));

  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");  // what isn't there goes last, whichever way
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sort = (head) => {
    const table = head.closest("table"), column = head.cellIndex, body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const order = (a, b) => compare(value(a), value(b)) * (down && value(a) !== "" && value(b) !== "" ? -1 : 1);
    body.append(...[...body.rows].sort(order));
  };
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);
  draw().then(() => document.documentElement.setAttribute("data-drawn", String(plots.length)));
})();
