// Keeps the session panel and the badges of the account list current over the WebSocket.
"use strict";
(() => {
  let live, sign, panelId = null;
  let pause = 500;

  const cells = () => [...document.querySelectorAll("[data-session-cell]")];

  function countDown() {
    for (const element of document.querySelectorAll("[data-expires-at]")) {
      const seconds = Math.max(0, Math.round((new Date(element.dataset.expiresAt) - Date.now()) / 1000));
      element.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    }
  }

  function giveTokens() {
    const token = document.querySelector("#csrf input[name=csrfmiddlewaretoken]");
    for (const form of document.querySelectorAll("#session-panel form[method=post]")) {
      if (token && !form.querySelector("input[name=csrfmiddlewaretoken]")) form.append(token.cloneNode());
    }
  }

  function showPanel(html, version) {
    const panel = document.getElementById("session-panel");
    if (!panel) return;
    const field = panel.querySelector("input[name=phone]");
    const typing = field && document.activeElement === field;
    if (typing && panel.dataset.version === String(version)) return;
    const typed = field ? field.value : null;
    panel.outerHTML = html;
    const again = document.querySelector("#session-panel input[name=phone]");
    if (typing && again) { again.value = typed; again.focus(); }
    giveTokens();
    countDown();
  }

  function show(session) {
    if (session.panel && session.id === panelId) showPanel(session.panel, session.version);
    for (const cell of cells()) {
      if (Number(cell.dataset.sessionCell) !== session.id) continue;
      const badge = cell.querySelector("[data-badge]");
      const sentence = cell.querySelector("[data-sentence]");
      if (badge) badge.innerHTML = session.badge;
      if (sentence) sentence.textContent = session.sentence;
      cell.dataset.state = session.state;
    }
  }

  function say(connected) {
    if (!sign) return;
    sign.textContent = connected ? sign.dataset.live : sign.dataset.lost;
    sign.classList.toggle("wa-lost", !connected);
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/sessions/`);
    socket.onopen = () => {
      pause = 500;
      say(true);
      const watch = [...new Set(cells().map((cell) => Number(cell.dataset.sessionCell)))];
      socket.send(JSON.stringify({ watch, panel: panelId }));
    };
    socket.onmessage = (message) => show(JSON.parse(message.data));
    socket.onclose = (closed) => {
      say(false);
      if (closed.code === 4401) { location.reload(); return; }
      setTimeout(connect, pause * (0.5 + Math.random()));
      pause = Math.min(pause * 2, 15000);
    };
  }

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener("DOMContentLoaded", () => {
    live = document.getElementById("live");
    sign = document.getElementById("live-sign");
    panelId = live ? Number(live.dataset.panel) : null;
    if (!live && !cells().length) return;
    giveTokens();
    countDown();
    setInterval(countDown, 1000);
    connect();
  });
})();
