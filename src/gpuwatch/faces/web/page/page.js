// What textual.js leaves to the page: the socket's address, the font before the first cell is measured, the keys that a
// browser's user means for the browser, and what is said when the screen has ended.
"use strict";
(() => {
  const CODES = { 1001: "stopped", 4001: "full", 4002: "failed", 4003: "ended", 4004: "ended" };
  const RETRY_MS = 3000;
  const FONT_MS = 4000;
  const terminal = document.getElementById("terminal");
  const [words, button] = [document.querySelector("#notice p"), document.querySelector("#notice button")];

  terminal.dataset.sessionWebsocketUrl = location.origin.replace(/^http/, "ws") + "/ws";

  // textual.js measures a cell once, when it begins: the font has to be there by then.
  const begin = window.onload;
  window.onload = async (event) => {
    const wanted = ["15px", "bold 15px", "italic 15px"].map((font) => document.fonts.load(`${font} "Roboto Mono"`));
    await Promise.race([Promise.allSettled(wanted), new Promise((done) => setTimeout(done, FONT_MS))]);
    begin.call(window, event);
  };

  // Ctrl-C copies what was marked with Shift and the mouse, Ctrl-V pastes: the terminal is not asked.
  terminal.addEventListener(
    "keydown",
    (event) => {
      const held = event.ctrlKey || event.metaKey;
      if (held && !event.altKey && ["c", "v"].includes(event.key.toLowerCase())) event.stopPropagation();
    },
    true,
  );

  const Plain = window.WebSocket;
  window.WebSocket = class extends Plain {
    constructor(...given) {
      super(...given);
      this.addEventListener("open", () => terminal.querySelector(".xterm-helper-textarea")?.focus());
      this.addEventListener("close", (event) => closed(CODES[event.code] ?? "lost"));
    }
  };

  function closed(why) {
    words.textContent = document.body.dataset[why];
    button.hidden = false;
    button.focus();
    document.body.classList.add("-closed");
    if (why === "lost" || why === "stopped") setTimeout(look, RETRY_MS);
  }

  async function look() {
    try {
      const answer = await fetch("/", { cache: "no-store" });
      if (answer.ok) return location.reload();
      if (answer.status === 403) {
        words.textContent = document.body.dataset.changed;
        button.hidden = true; // this address leads nowhere any more
        return undefined;
      }
    } catch {
      // it is still away
    }
    return setTimeout(look, RETRY_MS);
  }

  button.addEventListener("click", () => location.reload());
})();
