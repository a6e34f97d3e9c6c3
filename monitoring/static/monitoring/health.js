// Keeps the cards of the index, or one incident, current over the WebSocket; draws the history of a metric.
"use strict";
(() => {
  let sign, said, watch;
  let pause = 500;

  function replace(id, html) {
    const old = document.getElementById(id);
    if (!old || old.dataset.html === html) return "";
    const template = document.createElement("template");
    template.innerHTML = html.trim();
    const fresh = template.content.firstElementChild;
    // Whoever reads with the keyboard stays where they were, and what they unfolded stays unfolded.
    const focused = old.contains(document.activeElement) ? [...old.querySelectorAll("a, summary")].indexOf(document.activeElement) : -1;
    const open = [...old.querySelectorAll("details")].reverse().map((one) => one.open);
    const changed = old.dataset.level !== fresh.dataset.level;
    old.replaceWith(fresh);
    fresh.dataset.html = html;
    [...fresh.querySelectorAll("details")].reverse().forEach((one, n) => { one.open = Boolean(open[n]); });
    if (focused >= 0) fresh.querySelectorAll("a, summary")[focused]?.focus();
    return changed ? `${fresh.dataset.name}: ${fresh.dataset.word}.` : "";
  }

  function say(connected) {
    sign.textContent = connected ? sign.dataset.live : sign.dataset.lost;
    sign.classList.toggle("wa-lost", !connected);
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/health/`);
    socket.onopen = () => {
      pause = 500;
      say(true);
      socket.send(JSON.stringify({ watch }));
    };
    socket.onmessage = (message) => {
      const changes = Object.entries(JSON.parse(message.data).parts).map(([id, html]) => replace(id, html)).filter(Boolean);
      if (changes.length) said.textContent = changes.join(" ");
    };
    socket.onclose = (closed) => {
      say(false);
      if (closed.code === 4401) { location.reload(); return; }
      setTimeout(connect, pause * (0.5 + Math.random()));
      pause = Math.min(pause * 2, 15000);
    };
  }

  let chart = null;

  // Labels at full hours and days of the reader's own clock.
  function ticks(data) {
    const values = [];
    const first = new Date(data.from);
    first.setHours(0, 0, 0, 0);
    for (let at = first.getTime(); at <= data.to; at += data.tick) if (at >= data.from) values.push({ value: at });
    return values;
  }

  function draw() {
    const canvas = document.getElementById("metric-chart");
    if (!canvas) return;
    chart?.destroy();
    const data = JSON.parse(document.getElementById("metric-data").textContent);
    const dark = document.documentElement.classList.contains("dark");
    const ink = dark ? "#9ca3af" : "#4b5563";
    const colours = { warning: "#d97706", critical: "#dc2626" };
    const line = (label, key, colour, width) => ({
      label, data: data.points.map((point) => ({ x: point.x, y: point[key] })), borderColor: colour, backgroundColor: colour,
      borderWidth: width, pointRadius: data.points.length > 1 ? 0 : 3, spanGaps: false, tension: 0,
    });
    const limit = (one) => ({
      label: `${one.label}: ${one.value} ${data.unit}`, data: [{ x: data.from, y: one.value }, { x: data.to, y: one.value }],
      borderColor: colours[one.kind], backgroundColor: colours[one.kind], borderWidth: 1.5, borderDash: one.kind === "warning" ? [6, 4] : [], pointRadius: 0,
    });
    const language = document.documentElement.lang || undefined;
    const time = (at) => new Date(at).toLocaleString(language, { ...(data.days ? { day: "numeric", month: "short" } : {}), hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const label = (at) => data.days ? new Date(at).toLocaleDateString(language, { day: "numeric", month: "short" }) : time(at);
    chart = new Chart(canvas, {
      type: "line",
      data: { datasets: [line(data.words.mean, "mean", dark ? "#a5b4fc" : "#4f46e5", 2), line(data.words.high, "high", dark ? "#6b7280" : "#9ca3af", 1), ...data.lines.map(limit)] },
      options: {
        // Not animated: Chart.js 4.4.0 can lose a change of size that comes while it animates, and the chart stays as wide as it was.
        responsive: true, maintainAspectRatio: false, animation: false, parsing: false, normalized: true,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        scales: {
          x: { type: "linear", min: data.from, max: data.to, afterBuildTicks: (axis) => { axis.ticks = ticks(data); }, ticks: { color: ink, callback: label, maxRotation: 0, autoSkip: true, autoSkipPadding: 12 }, grid: { color: "#8882" } },
          y: { beginAtZero: true, ticks: { color: ink }, grid: { color: "#8882" }, title: { display: Boolean(data.unit), text: data.unit, color: ink } },
        },
        plugins: { legend: { position: "bottom", labels: { color: ink, boxWidth: 18 } }, tooltip: { callbacks: { title: (items) => items.length ? time(items[0].parsed.x) : "" } } },
      },
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    draw();
    // Drawn again in the colours of the other theme when somebody changes it.
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
    const place = document.getElementById("health");
    if (!place) return;
    sign = document.getElementById("health-sign");
    said = document.getElementById("health-said");
    watch = /^\d+$/.test(place.dataset.watch) ? Number(place.dataset.watch) : place.dataset.watch;
    connect();
  });
})();
