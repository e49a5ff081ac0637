// What both pages share: elements, numbers in words, light or dark.
"use strict";

const $ = (id) => document.getElementById(id);

/** An element: el("td", {class: "name", "data-label": "Rate"}, "text", child, ...). */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The same for SVG. */
function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets text only when it changed, so that selections and screen readers are left in peace. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const NARROW = "\u202f";

/** 0, 3.2, 47, 1 250, 12.4k, 3.1M: three digits that matter. */
function formatCount(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 9.995e8) return (value / 1e9).toFixed(1) + "G";
  if (size >= 9.995e5) return (value / 1e6).toFixed(1) + "M";
  if (size >= 9999.5) return (value / 1e3).toFixed(1) + "k";
  if (size >= 999.5) return String(Math.round(value)).replace(/(\d)(\d{3})$/, "$1" + NARROW + "$2");
  if (size >= 99.95 || Number.isInteger(value)) return String(Math.round(value));
  return size >= 9.995 ? value.toFixed(0) : value.toFixed(1);
}

/** Milliseconds as "420 µs", "3.2 ms", "1.25 s": [number, unit]. */
function splitMs(ms) {
  if (!Number.isFinite(ms) || ms <= 0) return ["–", ""];
  if (ms < 0.9995) return [(ms * 1000).toFixed(0), "µs"];
  if (ms < 9.995) return [ms.toFixed(1), "ms"];
  if (ms < 999.5) return [ms.toFixed(0), "ms"];
  return [(ms / 1000).toFixed(ms < 9995 ? 2 : 1), "s"];
}

function formatMs(ms) {
  const [number, unit] = splitMs(ms);
  return unit ? number + " " + unit : number;
}

/** "99.95 %": as many digits as keep 100 % for what is whole. */
function formatShare(share) {
  if (!Number.isFinite(share)) return "–";
  if (share >= 1) return "100" + NARROW + "%";
  const percent = share * 100;
  const digits = percent > 99.9 ? 2 : percent > 10 ? 1 : 2;
  const power = 10 ** digits;
  return (Math.floor(percent * power) / power).toFixed(digits) + NARROW + "%";
}

function formatBytes(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) {
    bytes /= 1024;
    at++;
  }
  return (at === 0 || bytes >= 99.5 ? Math.round(bytes) : bytes.toFixed(1)) + " " + units[at];
}

function formatDuration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return seconds + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  const hours = Math.floor(seconds / 3600);
  return hours < 24 ? hours + " h " + Math.floor((seconds % 3600) / 60) + " min" : Math.floor(hours / 24) + " d " + (hours % 24) + " h";
}

function formatClock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

function showBanner(text) {
  const banner = $("banner");
  if (banner.querySelector("form") && text === "") banner.replaceChildren();
  banner.hidden = !text;
  setText(banner, text || "");
}

// --- a server that wants to know who asks: the token is kept for this tab, and no longer ---

const token = {
  get() {
    try {
      return sessionStorage.getItem("fermata-token") || "";
    } catch {
      return this.kept || "";
    }
  },
  set(value) {
    this.kept = value;
    try {
      sessionStorage.setItem("fermata-token", value);
    } catch {
      // Without storage it lasts as long as the page.
    }
  },
};

function askForToken() {
  const banner = $("banner");
  if (banner.querySelector("form")) return;
  const field = el("input", { type: "password", autocomplete: "off", "aria-label": "Access token", placeholder: "Token" });
  const form = el("form", { class: "token", onsubmit: (event) => {
    event.preventDefault();
    token.set(field.value.trim());
    banner.replaceChildren();
    banner.hidden = true;
    dispatchEvent(new Event("tokenchange"));
  } }, token.get() ? "The server does not take this token. Another one:" : "This server wants an access token:", field, el("button", { class: "plain", type: "submit" }, "Use it"));
  banner.replaceChildren(form);
  banner.hidden = false;
  field.focus();
}

/** fetch with the token. Where the server wants one (401), asks for it and throws an error with `asked` set. */
async function ask(url, options) {
  const headers = { ...(options?.headers || {}) };
  if (token.get()) headers.Authorization = "Bearer " + token.get();
  const answer = await fetch(url, { ...options, headers });
  if (answer.status === 401) {
    askForToken();
    throw Object.assign(new Error("the server wants a token"), { asked: true });
  }
  return answer;
}

// --- light or dark: the system's choice until somebody makes one here ---
(function () {
  const remembered = (() => {
    try {
      return localStorage.getItem("fermata-theme");
    } catch {
      return null;
    }
  })();
  if (remembered === "light" || remembered === "dark") document.documentElement.dataset.theme = remembered;
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  $("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("fermata-theme", theme);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    dispatchEvent(new Event("themechange"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
})();
