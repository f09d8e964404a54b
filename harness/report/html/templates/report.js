"use strict";
// What a page of charts can do beyond being read: tell a moment, zoom, hide a line. The charts are in the page already.
(function () {
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800];
  const whole = [numbers.start, Math.max(numbers.end, numbers.start + 0.1)];
  let [from, to] = whole;

  function make(name, attributes, parent) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return parent.appendChild(made);
  }

  const charts = numbers.panels.map((panel) => {
    const root = document.getElementById("panel-" + panel.id);
    const area = root.querySelector(".area");
    const view = area.querySelector(".view");
    const top = Number(view.getAttribute("y"));
    const bottom = top + Number(view.getAttribute("height"));
    return {
      root: root, area: area, view: view, bottom: bottom, grid: numbers.grids[panel.grid], values: panel.values,
      cursor: make("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" }, area),
      chosen: make("rect", { class: "chosen", y: top, height: bottom - top, width: 0 }, area),
      at: make("text", { class: "at", y: bottom - 5, visibility: "hidden" }, area),
      told: Array.from(root.querySelectorAll(".legend .value")),
    };
  });

  function clock(at) {
    return numbers.began === null ? "" : new Date(numbers.began + at * 1000).toISOString().slice(11, 19);
  }
  function percent(at) { return ((at - from) / (to - from)) * 100 + "%"; }
  function seconds(at) { return String(Math.round(at * 10) / 10) + " s"; }

  function ticks(chart, wide) {
    for (const old of chart.area.querySelectorAll(".tick")) old.remove();
    const most = Math.max(2, Math.min(12, Math.floor(wide / 72)));
    const step = STEPS.find((one) => (to - from) / one <= most) || (to - from) / most;
    for (let i = Math.ceil(from / step - 1e-6); i * step <= to + 1e-6; i += 1) {
      const share = (i * step - from) / (to - from);
      const anchor = share * wide < 26 ? "start" : (1 - share) * wide < 26 ? "end" : "middle";
      const place = { class: "tick", x: percent(i * step), "text-anchor": anchor };
      make("text", Object.assign({ y: chart.bottom + 14 }, place), chart.area).textContent = seconds(i * step);
      make("text", Object.assign({ y: chart.bottom + 27 }, place), chart.area).textContent = clock(i * step);
    }
  }

  function words(chart, wide) {
    for (const word of chart.area.querySelectorAll("[data-s]")) {
      const start = Math.max(Number(word.dataset.s), from);
      const end = Math.min(Number(word.dataset.e), to);
      const phase = word.classList.contains("phase");
      const room = ((end - start) / (to - from)) * wide;
      const shown = phase ? room > word.textContent.length * 6.5 : end >= start;
      word.classList.remove("wide", "none");
      word.setAttribute("visibility", shown ? "visible" : "hidden");
      const late = start > from + 0.6 * (to - from);
      if (!phase) word.setAttribute("text-anchor", late ? "end" : "start");
      word.setAttribute("x", percent(phase ? (start + end) / 2 : late ? end : start));
    }
  }

  function show(begin, end) {
    from = Math.max(begin, whole[0]);
    to = Math.min(end, whole[1]);
    if (to - from < 0.5) [from, to] = whole;
    for (const chart of charts) {
      const wide = chart.area.clientWidth || chart.area.getBoundingClientRect().width;
      chart.view.setAttribute("viewBox", [(from - whole[0]) * 10, 0, (to - from) * 10, 1000].join(" "));
      ticks(chart, wide);
      words(chart, wide);
    }
  }

  function tell(at) {
    for (const chart of charts) {
      const shown = at !== null && at >= from && at <= to;
      for (const mark of [chart.cursor, chart.at]) mark.setAttribute("visibility", shown ? "visible" : "hidden");
      let index = -1;
      if (shown) {
        for (const end of ["x1", "x2"]) chart.cursor.setAttribute(end, percent(at));
        chart.at.setAttribute("x", percent(at));
        chart.at.setAttribute("text-anchor", at > (from + to) / 2 ? "end" : "start");
        chart.at.textContent = " " + seconds(at) + " " + clock(at) + " ";
        index = chart.grid.findIndex((start, i) => at >= start && at < chart.grid[i + 1]);
      }
      chart.told.forEach((place, i) => {
        const value = index < 0 ? null : chart.values[i][index];
        place.textContent = !shown ? "" : value === null || value === undefined ? " no data" : " " + value.toLocaleString("en");
      });
    }
  }

  let began = null;  // where a drag began, and in which chart
  let dragged = null;
  function timeAt(chart, event) {
    const box = chart.area.getBoundingClientRect();
    return from + Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * (to - from);
  }
  for (const chart of charts) {
    chart.area.addEventListener("pointermove", (event) => {
      const at = timeAt(chart, event);
      tell(at);
      if (began === null) return;
      for (const other of charts) {
        other.chosen.setAttribute("x", percent(Math.min(began, at)));
        other.chosen.setAttribute("width", (Math.abs(at - began) / (to - from)) * 100 + "%");
      }
    });
    chart.area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      began = timeAt(chart, event);
      dragged = chart;
    });
    chart.area.addEventListener("pointerleave", () => tell(null));
    chart.area.addEventListener("dblclick", () => show(...whole));
    for (const button of chart.root.querySelectorAll("[data-entry]")) {
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        chart.view.querySelector('[data-series="' + button.dataset.entry + '"]').setAttribute("display", on ? "inline" : "none");
      });
    }
  }
  window.addEventListener("pointerup", (event) => {
    if (began === null) return;
    const at = timeAt(dragged, event);
    const range = [Math.min(began, at), Math.max(began, at)];
    began = null;
    for (const chart of charts) chart.chosen.setAttribute("width", 0);
    if (range[1] - range[0] > 0.01 * (to - from)) show(...range);
  });
  for (const button of document.querySelectorAll("button[data-from]")) {
    button.addEventListener("click", () => show(Number(button.dataset.from), Number(button.dataset.to)));
  }
  const folded = [];
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) { details.open = true; folded.push(details); }
  });
  window.addEventListener("afterprint", () => { for (const details of folded.splice(0)) details.open = false; });
  window.addEventListener("resize", () => show(from, to));
  document.documentElement.classList.add("scripted-on");
  show(from, to);
  document.documentElement.dataset.drawn = String(charts.length);
})();
