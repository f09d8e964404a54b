"use strict";
// Draws the panels. Runs after plotly.js; needs nothing from the network.
(function () {
  const LIGHT = {
    rps: "#1d5fbf", planned: "#7a8494", p50: "#1a9c6b", p95: "#d98200", p99: "#a03fc0",
    status: "#c8323f", timeout: "#e8842c", refused: "#8c1d2b", reset: "#d46a9f", protocol: "#7d5a3c", check: "#b59a00",
    exception: "#6b7280", unsent: "#3d3f8f", unfinished: "#8f7fd1",
    fault: "rgba(220,60,60,0.13)", faultline: "rgba(220,60,60,0.55)", faulttext: "#a3192b",
    nodata: "rgba(120,130,150,0.22)", phase: "rgba(110,120,135,0.75)", zero: "#12885a", recovery: "rgba(26,156,107,0.30)",
    muted: "#5b6575", fg: "#1c2330", grid: "#e6e9ef", card: "#ffffff", axis: "#b9c1cd",
    series1: "#1d5fbf", series2: "#d98200", series3: "#1a9c6b", series4: "#a03fc0", series5: "#c8323f",
    series6: "#0d8ea3", series7: "#7d5a3c", series8: "#6b7280",
  };
  const DARK = Object.assign({}, LIGHT, {
    rps: "#77aeff", planned: "#98a3b3", p50: "#4fd09b", p95: "#ffb84d", p99: "#d48cf0",
    status: "#ff7380", timeout: "#ffa95e", refused: "#d9485a", reset: "#f29ac6", check: "#e0c83c",
    exception: "#a9b1bd", unsent: "#8b8df0", unfinished: "#b9aef0",
    fault: "rgba(255,90,90,0.20)", faultline: "rgba(255,110,110,0.60)", faulttext: "#ff9aa4",
    nodata: "rgba(150,160,180,0.22)", phase: "rgba(160,170,185,0.70)", zero: "#4fd09b", recovery: "rgba(79,208,155,0.35)",
    muted: "#9aa5b5", fg: "#e4e8ef", grid: "#2b3340", card: "#1a202a", axis: "#475263",
    series1: "#77aeff", series2: "#ffb84d", series3: "#4fd09b", series4: "#d48cf0", series5: "#ff7380",
    series6: "#54cfe0", series7: "#c9a27e", series8: "#a9b1bd",
  });
  const COLOUR_KEYS = new Set(["color", "fillcolor"]);
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const darkQuery = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = [];
  let range = null;
  let busy = false;

  function themed(value, colours) {
    if (Array.isArray(value)) return value.map((item) => themed(item, colours));
    if (value === null || typeof value !== "object") return value;
    const made = {};
    for (const [key, item] of Object.entries(value)) {
      made[key] = COLOUR_KEYS.has(key) && typeof item === "string" && item[0] === "$"
        ? colours[item.slice(1)] : themed(item, colours);
    }
    return made;
  }

  function layoutOf(figure, colours, height, narrow) {
    const layout = themed(figure.layout, colours);
    const axis = {
      gridcolor: colours.grid, zerolinecolor: colours.grid, linecolor: colours.axis, tickcolor: colours.axis,
      automargin: false, zeroline: false,
    };
    // The same margins everywhere, so that the panels share one time axis to the pixel.
    return Object.assign(layout, {
      height: height, margin: { l: 66, r: 14, t: figure.data.length > 1 ? 24 : 10, b: 26 },
      paper_bgcolor: colours.card, plot_bgcolor: colours.card,
      font: { family: "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif", size: 12, color: colours.fg },
      xaxis: Object.assign({}, axis, { ticks: "outside", ticklen: 4, nticks: narrow ? 8 : 16, hoverformat: ".1f" },
        layout.xaxis, range ? { range: range } : {}),
      yaxis: Object.assign({}, axis, { fixedrange: true, nticks: 6 }, layout.yaxis),
      hovermode: "x unified", hoverlabel: { bgcolor: colours.card, bordercolor: colours.axis, font: { color: colours.fg } },
      dragmode: "zoom", showlegend: figure.data.length > 1,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: { size: 11 } },
    });
  }

  function draw(colours, width) {
    for (const figure of figures) {
      const target = document.getElementById("plot-" + figure.id);
      const layout = layoutOf(figure, colours, figure.height, (width || target.clientWidth) < 700);
      if (width) layout.width = width; else layout.autosize = true;
      if (figure.id === "load") layout.margin.t = 42;
      if (figure.id === "load") layout.legend.y = 1.09;
      Plotly.react(target, themed(figure.data, colours), layout, {
        displayModeBar: false, responsive: !width, doubleClick: "reset", showAxisDragHandles: false,
      });
      if (!plots.includes(target)) {
        plots.push(target);
        target.on("plotly_relayout", (change) => follow(target, change));
        target.on("plotly_hover", (event) => hover(target, event.xvals ? event.xvals[0] : null));
        target.on("plotly_unhover", () => hover(target, null));
      }
    }
  }

  function follow(source, change) {
    if (busy) return;
    if (change["xaxis.range[0]"] !== undefined) zoom(change["xaxis.range[0]"], change["xaxis.range[1]"]);
    else if (change["xaxis.range"]) zoom(change["xaxis.range"][0], change["xaxis.range"][1]);
    else if (change["xaxis.autorange"] !== undefined && figures.length) zoom(...figures[0].layout.xaxis.range);
  }

  function zoom(from, to) {
    range = [from, to];
    busy = true;
    Promise.all(plots.map((plot) => Plotly.relayout(plot, { "xaxis.range": [from, to] }))).then(() => { busy = false; });
  }

  // A thin line at the same moment in every other panel.
  function hover(source, x) {
    for (const plot of plots) {
      const bar = plot.querySelector(".same-moment");
      if (!bar) continue;
      const axis = plot._fullLayout && plot._fullLayout.xaxis;
      const shown = plot !== source && x !== null && axis && x >= axis.range[0] && x <= axis.range[1];
      bar.style.display = shown ? "block" : "none";
      if (shown) bar.style.left = axis._offset + axis.l2p(x) + "px";
    }
  }

  function colours() { return darkQuery.matches ? DARK : LIGHT; }

  draw(colours());
  for (const plot of plots) {
    const bar = document.createElement("div");
    bar.className = "same-moment";
    plot.style.position = "relative";
    plot.appendChild(bar);
  }
  for (const button of document.querySelectorAll("button[data-from]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.from), Number(button.dataset.to)));
  }
  darkQuery.addEventListener("change", () => draw(colours()));
  window.addEventListener("beforeprint", () => draw(LIGHT, 690));
  window.addEventListener("afterprint", () => draw(colours()));
  document.documentElement.dataset.drawn = String(plots.length);
})();
