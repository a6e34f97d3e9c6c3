// Keeps the session panel and the badges of the account list current over the WebSocket.
"use strict";
(() => {
  let live, sign, panelId = null;
  let pause = 500;
  let shownPanel = "";

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

  // What the person has open, typed and focused outlives a new panel; an unchanged one is left alone.
  function showPanel(html) {
    const panel = document.getElementById("session-panel");
    if (!panel || html === shownPanel) return;
    shownPanel = html;
    const reachable = () => [...document.querySelectorAll("#session-panel :is(button, input:not([type=hidden]), summary)")];
    const focused = reachable().find((element) => element === document.activeElement);
    const field = panel.querySelector("input[name=phone]");
    const typed = field && field.value !== field.defaultValue ? field.value : null;
    const opened = [...panel.querySelectorAll("details[open]")].map((element) => element.id);
    panel.outerHTML = html;
    for (const id of opened) { const element = document.getElementById(id); if (element) element.open = true; }
    const again = document.querySelector("#session-panel input[name=phone]");
    if (again && typed !== null) again.value = typed;
    const name = (element) => element.name || element.textContent.trim();
    const same = focused && reachable().find((element) => name(element) === name(focused));
    if (same) same.focus();
    giveTokens();
    countDown();
  }

  function show(session) {
    if (session.panel && session.id === panelId) showPanel(session.panel);
    for (const cell of cells()) {
      if (Number(cell.dataset.sessionCell) !== session.id) continue;
      const badge = cell.querySelector("[data-badge]");
      const sentence = cell.querySelector("[data-sentence]");
      if (badge) badge.innerHTML = session.badge;
      if (sentence) sentence.textContent = session.sentence;
      cell.dataset.state = session.state;
    }
    for (const part of document.querySelectorAll("[data-session-part]"))
      if (Number(part.dataset.session) === session.id) part.textContent = session.cells[part.dataset.sessionPart];
    overviewSoon();
  }

  function say(what) {
    if (!sign || sign.textContent === sign.dataset[what]) return;
    sign.textContent = sign.dataset[what];
    sign.classList.toggle("wa-lost", what !== "live");
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/sessions/`);
    socket.onopen = () => {
      const watch = [...new Set(cells().map((cell) => Number(cell.dataset.sessionCell)))];
      socket.send(JSON.stringify({ watch, panel: panelId }));
    };
    socket.onmessage = (message) => { pause = 500; say("live"); show(JSON.parse(message.data)); };
    socket.onclose = (closed) => {
      say(closed.code === 4401 ? "refused" : "lost");
      if (closed.code === 4401) return;
      setTimeout(connect, pause * (0.5 + Math.random()));
      pause = Math.min(pause * 2, 15000);
    };
  }

  // What stands above the account list: often while many are starting, else now and then and when something changed.
  let overviewTimer = null;
  let overviewAt = 0;
  let overviewShown = null;

  async function refreshOverview() {
    const place = document.getElementById("overview");
    if (!place) return;
    overviewAt = Date.now();
    try {
      const answer = await fetch(place.dataset.url, { headers: { "X-Requested-With": "XMLHttpRequest" } });
      if (answer.ok && !answer.redirected) {
        const html = await answer.text();
        if (html !== overviewShown) place.innerHTML = overviewShown = html; // said aloud only when it changed
      }
    } catch { /* the sign says that the connection is lost */ }
    clearTimeout(overviewTimer);
    overviewTimer = setTimeout(refreshOverview, place.querySelector("[data-busy]") ? 2000 : 15000);
  }

  function overviewSoon() {
    clearTimeout(overviewTimer);
    overviewTimer = setTimeout(refreshOverview, Math.max(0, 1000 - (Date.now() - overviewAt)));
  }

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener("DOMContentLoaded", () => {
    live = document.getElementById("live");
    sign = document.getElementById("live-sign");
    panelId = live ? Number(live.dataset.panel) : null;
    overviewSoon();
    if (!live && !cells().length) return;
    giveTokens();
    countDown();
    setInterval(countDown, 1000);
    connect();
  });
})();
