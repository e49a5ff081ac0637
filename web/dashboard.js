// The overview: asks for /debug/state once a second and shows it.
"use strict";

const POLL_MS = 1000;
const KEEP_MS = 300000;
const OVERLAP_US = 300000;
const DROP_WORDS = {
  infeasible: ["Infeasible", "could not be met when it arrived"],
  late: ["No accelerator in time", "the deadline came nearer than the model is fast"],
  sacrificed: ["Sacrificed", "let go so that more of its successors are served"],
  rejected: ["Rejected", "the queue ahead of it was too long"],
  cancelled: ["Cancelled", "by its client"],
  model_gone: ["Model gone", "unloaded while it waited"],
  failed: ["Batch failed", "and there was no time to try again"],
  outranked: ["Outranked", "more important requests came first"],
  admission: ["Not admitted", "limits on rate, or the server was not ready"],
  queue_full: ["Queue full", "no slot was free"],
};

const view = {
  state: null,
  since: 0,
  history: [], // rows of the whole server: {at, good, late, drop, fail, ...} a second
  models: new Map(), // by key: {history, snapshots}
  sort: { column: "name", down: false },
  paused: false,
};

const modelKey = (model) => model.name + "\u0000" + model.version;

// --- what the polls tell, kept for five minutes ---

function historyRow(row) {
  const [at, span, good, late, failed, dropped, inferences, batches, queued, up, used, wanted] = row;
  const each = 1000 / Math.max(1, span);
  return { at, good: good * each, late: late * each, fail: failed * each, drop: dropped * each, batch: batches ? inferences / batches : 0, queued, up, used, wanted };
}

function dropsOf(counts) {
  return Object.values(counts.drops).reduce((sum, count) => sum + count, 0);
}

/** Adds this poll to a model's history: the differences of its counts. */
function modelRemember(model, at) {
  const key = modelKey(model);
  let kept = view.models.get(key);
  if (!kept) view.models.set(key, (kept = { history: [], snapshots: [] }));
  const last = kept.snapshots[kept.snapshots.length - 1];
  const counts = model.counts;
  if (last && (counts.success < last.counts.success || at <= last.at)) {
    // The server was started again, or its clock was set back.
    kept.history = [];
    kept.snapshots = [];
  } else if (last) {
    const each = 1000 / (at - last.at);
    const grown = (name) => Math.max(0, counts[name] - last.counts[name]) * each;
    const drop = Math.max(0, dropsOf(counts) - dropsOf(last.counts)) * each;
    kept.history.push({ at, good: grown("good"), late: grown("late"), drop, fail: Math.max(0, grown("failure") - drop) });
  }
  kept.snapshots.push({ at, counts });
  kept.history = kept.history.filter((row) => row.at > at - KEEP_MS);
  kept.snapshots = kept.snapshots.filter((snapshot) => snapshot.at > at - KEEP_MS - 2000);
}

/** The counts of `ms` ago, or of as long ago as is known; null: nothing to compare with. */
function snapshotBefore(key, at, ms) {
  const kept = view.models.get(key);
  return kept?.snapshots.find((snapshot) => snapshot.at >= at - ms) || null;
}

function remember(state) {
  const at = state.server.wall_ms;
  if (view.state && state.server.start_ms !== view.state.server.start_ms) {
    view.history = [];
    view.models.clear();
  }
  const newest = view.history.length ? view.history[view.history.length - 1].at : 0;
  for (const row of state.history) if (row[0] > newest) view.history.push(historyRow(row));
  view.history = view.history.filter((row) => row.at > at - KEEP_MS);
  const known = new Set(state.models.map(modelKey));
  for (const key of view.models.keys()) if (!known.has(key)) view.models.delete(key);
  for (const model of state.models) modelRemember(model, at);
  view.state = state;
}

// --- tiles ---

function tile(id, title) {
  const value = el("div", { class: "value" });
  const more = el("div", { class: "more" });
  const node = el("article", { class: "tile", id: "tile-" + id }, el("h3", {}, title), value, more);
  $("tiles").append(node);
  return { node, value, more };
}

const tiles = {};

function tileSet(name, number, unit, more, mood) {
  const { node, value, more: below } = tiles[name];
  setText(value, "");
  value.replaceChildren(number, unit ? el("small", {}, unit) : "");
  setText(below, more);
  below.title = more;
  node.className = "tile" + (mood ? " " + mood : "");
}

function recentSum(models, name) {
  return models.reduce((sum, model) => sum + (model.recent ? model.recent[name] : 0), 0);
}

function showTiles(state) {
  const models = state.models;
  const asked = recentSum(models, "requests");
  const good = recentSum(models, "good");
  tileSet("good", formatCount(good), "/s", asked > 0 ? formatCount(asked) + " asked for a second" : "no requests", "");
  sparkUpdate(tiles.good.spark, view.history.slice(-60).map((row) => row.good));
  const share = asked > 0 ? good / asked : NaN;
  tileSet("met", asked > 0 ? formatShare(share) : "–", "", asked > 0 ? "of all requests, lately" : "no requests", share < 0.9 ? "bad" : share < 0.99 ? "warn" : asked > 0 ? "good" : "");
  const tight = models.filter((model) => model.recent && model.slo_ms > 0 && model.recent.p99_ms > 0).sort((a, b) => b.recent.p99_ms / b.slo_ms - a.recent.p99_ms / a.slo_ms)[0];
  if (tight) {
    const part = tight.recent.p99_ms / tight.slo_ms;
    tileSet("tight", Math.round(part * 100) + NARROW + "%", "of its SLO", tight.name + ": p99 " + formatMs(tight.recent.p99_ms) + " of " + formatMs(tight.slo_ms), part > 1.05 ? "bad" : part > 1 ? "warn" : "");
  } else {
    tileSet("tight", "–", "", "no model with an SLO answered", "");
  }
  const batches = models.reduce((sum, model) => sum + (model.recent && model.recent.batch ? model.recent.requests / model.recent.batch : 0), 0);
  const rows = models.reduce((sum, model) => sum + (model.recent && model.recent.batch ? model.recent.requests : 0), 0);
  tileSet("batch", batches > 0 ? (rows / batches).toFixed(1) : "–", "rows", batches > 0 ? formatCount(batches) + " batches a second" : "no batches", "");
  const { up, used, needed } = state.scheduler;
  tileSet("use", used + "", "of " + up + " in use", "", "");
  const shown = state.accelerators.slice(0, 16);
  const order = shown.map((accelerator, index) => (accelerator.state === "down" ? "down" : index < used ? "used" : "idle"));
  const slots = el("div", { class: "slots", "aria-hidden": "true" });
  for (const kind of order) slots.append(el("i", { class: kind }));
  tiles.use.more.replaceChildren("load needs " + needed.toFixed(1), slots);
  const flight = models.reduce((sum, model) => sum + model.in_flight, 0);
  tileSet("wait", formatCount(state.scheduler.queued), "waiting", formatCount(flight) + " in flight · " + formatCount(state.loops.reduce((sum, loop) => sum + loop.connections, 0)) + " connections", "");
}

// --- models ---

const COLUMNS = [
  ["name", "Model", (model) => model.name.toLowerCase()],
  ["rate", "Requests/s", (model) => model.recent?.requests ?? -1],
  ["trend", "", null],
  ["met", "In time", (model) => (model.recent && model.recent.requests ? model.recent.good / model.recent.requests : 2)],
  ["p50", "p50", (model) => model.recent?.p50_ms ?? -1],
  ["p99", "p99 of SLO", (model) => (model.recent ? model.recent.p99_ms / (model.slo_ms || 1e9) : -1)],
  ["batch", "Batch", (model) => model.recent?.batch ?? -1],
  ["queue", "Queue", (model) => model.queued],
  ["drops", "Drops/s", (model) => model.recent?.dropped ?? -1],
  ["link", "", null],
];

function makeModelsHead() {
  for (const [id, title, sorter] of COLUMNS) {
    const head = el("th", { scope: "col", role: "columnheader", id: "column-" + id });
    if (sorter) {
      head.append(el("button", { type: "button", onclick: () => {
        view.sort = { column: id, down: view.sort.column === id ? !view.sort.down : id !== "name" };
        showModels(view.state);
      } }, title));
    } else {
      head.append(el("span", { class: "hidden" }, id === "trend" ? "Last minute" : "Try it"));
    }
    $("models-head").append(head);
  }
}

function meter() {
  const bar = el("i");
  const number = el("span", { class: "num" });
  const node = el("span", { class: "meter" }, el("span", { class: "rail", "aria-hidden": "true" }, bar), number);
  return { node, set(share, text, mood) {
    bar.style.width = Math.max(0, Math.min(1, share || 0)) * 100 + "%";
    setText(number, text);
    node.className = "meter " + mood;
  } };
}

const rows = new Map();

function modelRow(model) {
  const cells = {};
  const cell = (id, label, ...children) => (cells[id] = el("td", { role: "cell", class: id, "data-label": label || false }, ...children));
  const node = el("tr", { role: "row" });
  const title = el("span");
  const version = el("span", { class: "version" });
  const state = el("i", { class: "state", role: "img" });
  const about = el("div", { class: "about" });
  node.append(cell("name", "", el("div", { class: "title" }, state, title, version), about));
  const row = { node, cells, title, version, state, about, met: meter(), p99: meter(), spark: sparkElement(), broken: null };
  const reason = el("td", { role: "cell", class: "reason", colspan: String(COLUMNS.length - 1) });
  row.reason = reason;
  cell("rate", "Requests/s");
  cell("trend", "", row.spark);
  cell("met", "In time", row.met.node);
  cell("p50", "p50");
  cell("p99", "p99 of SLO", row.p99.node);
  cell("batch", "Batch");
  cell("queue", "Queue");
  cell("drops", "Drops/s");
  cell("link", "", el("a", { class: "try-link", href: "try?model=" + encodeURIComponent(model.name) + "&version=" + encodeURIComponent(model.version), "aria-label": "Try " + model.name }, "Try"));
  return row;
}

/** "74 of 80 ms", or with both units where they differ. */
function ofMs(ms, limit) {
  const [number, unit] = splitMs(ms);
  const [most, mostUnit] = splitMs(limit);
  return number + (limit > 0 ? (unit === mostUnit ? "" : " " + unit) + " of " + most + " " + mostUnit : " " + unit);
}

function withUnit(cell, number, unit) {
  const text = number + "|" + unit;
  if (cell.dataset.shown === text) return;
  cell.dataset.shown = text;
  cell.replaceChildren(number, unit ? el("span", { class: "unit" }, " " + unit) : "");
}

function showModelRow(row, model) {
  const broken = model.state !== "READY";
  setText(row.title, model.name);
  setText(row.version, "v" + model.version);
  row.state.className = "state " + model.state;
  row.state.setAttribute("aria-label", model.state.toLowerCase());
  row.node.className = model.state;
  setText(row.about, [model.kind === "model" ? model.backend : model.kind === "stage" ? "in pipelines · " + model.backend : model.kind, model.goal].filter(Boolean).join(" · "));
  if (row.broken !== broken) {
    row.broken = broken;
    const first = row.cells.name;
    row.node.replaceChildren(first, ...(broken ? [row.reason] : COLUMNS.slice(1).map(([id]) => row.cells[id])));
  }
  if (broken) {
    setText(row.reason, model.state === "LOADING" ? "Loading…" : model.state === "UNLOADING" ? "Unloading…" : model.reason || "Unavailable, without a reason given");
    return;
  }
  const recent = model.recent || { requests: 0, good: 0, batch: 0, p50_ms: 0, p99_ms: 0, dropped: 0 };
  withUnit(row.cells.rate, formatCount(recent.requests), "");
  sparkUpdate(row.spark, (view.models.get(modelKey(model))?.history || []).slice(-60).map((sample) => sample.good + sample.late));
  const share = recent.requests > 0 ? recent.good / recent.requests : NaN;
  row.met.set(share, formatShare(share), share < 0.9 ? "bad" : share < 0.99 ? "warn" : "");
  withUnit(row.cells.p50, ...splitMs(recent.p50_ms));
  const part = model.slo_ms > 0 ? recent.p99_ms / model.slo_ms : NaN;
  row.p99.set(part, recent.p99_ms > 0 ? ofMs(recent.p99_ms, model.slo_ms) : "–", part > 1.05 ? "bad" : part > 1 ? "warn" : "");
  row.p99.node.title = model.slo_ms > 0 ? "SLO " + formatMs(model.slo_ms) : "no SLO";
  withUnit(row.cells.batch, recent.batch > 0 ? recent.batch.toFixed(1) : "–", recent.batch > 0 && model.batch_max > 1 ? "of " + model.batch_max : "");
  withUnit(row.cells.queue, formatCount(model.queued), "");
  withUnit(row.cells.drops, recent.dropped > 0 ? formatCount(recent.dropped) : "0", "");
}

function showModels(state) {
  if (!state) return;
  const { column, down } = view.sort;
  const sorter = COLUMNS.find(([id]) => id === column)[2];
  const models = [...state.models].sort((a, b) => {
    const [x, y] = [sorter(a), sorter(b)];
    const order = x < y ? -1 : x > y ? 1 : modelKey(a) < modelKey(b) ? -1 : 1;
    return down ? -order : order;
  });
  for (const [id] of COLUMNS) {
    const head = $("column-" + id);
    if (id === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const nodes = models.map((model) => {
    const key = modelKey(model);
    if (!rows.has(key)) rows.set(key, modelRow(model));
    showModelRow(rows.get(key), model);
    return rows.get(key).node;
  });
  for (const key of rows.keys()) if (!models.some((model) => modelKey(model) === key)) rows.delete(key);
  const body = $("models");
  if (nodes.length !== body.children.length || nodes.some((node, index) => node !== body.children[index])) {
    const focused = document.activeElement;
    body.replaceChildren(...nodes);
    if (body.contains(focused)) focused.focus();
  }
  $("models-empty").hidden = nodes.length > 0;
  const ready = models.filter((model) => model.state === "READY").length;
  setText($("models-sub"), ready + " of " + (models.length + state.models_omitted) + " ready" + (state.models_omitted ? ", the first " + models.length + " are shown" : ""));
}

function showChoices(state) {
  const select = $("chart-model");
  const wanted = ["", ...state.models.filter((model) => model.state === "READY").map(modelKey)];
  if (wanted.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map((key) => el("option", { value: key }, key ? key.replace("\u0000", " v") : "All models")));
  select.value = wanted.includes(chosen) ? chosen : "";
}

// --- charts ---

let goodput, sizes, advice, timeline;

function makeCharts() {
  goodput = new TimeChart($("goodput"), { label: "Goodput", legend: $("goodput-legend"), unit: "/s", stacked: true, layers: [
    { key: "good", label: "in time", area: "area a-good", line: "l-good", key_class: "k-good" },
    { key: "late", label: "late", area: "area a-late", key_class: "k-late" },
    { key: "drop", label: "dropped", area: "area a-drop", key_class: "k-drop" },
    { key: "fail", label: "failed", area: "area a-fail", key_class: "k-fail" }] });
  sizes = new SizeChart($("sizes"));
  advice = new TimeChart($("advice-chart"), { label: "Accelerators", legend: $("advice-legend"), left: 26, layers: [
    { key: "up", label: "up", line: "l-up", key_class: "k-up" },
    { key: "used", label: "used", area: "a-used", line: "l-used", key_class: "k-used" },
    { key: "wanted", label: "wanted", line: "l-wanted", key_class: "k-wanted" }] });
  timeline = new Timeline($("timeline"), $("timeline-readout"));
  timeline.choose(null);
  for (const seconds of [0.1, 0.5, 2, 5]) {
    const button = el("button", { type: "button", "aria-pressed": String(seconds === timeline.seconds), onclick: () => {
      timeline.seconds = seconds;
      for (const other of $("timeline-span").children) other.setAttribute("aria-pressed", String(other === button));
      timeline.draw();
    } }, seconds < 1 ? seconds * 1000 + " ms" : seconds + " s");
    $("timeline-span").append(button);
  }
}

function showGoodput(state) {
  const chosen = $("chart-model").value;
  const to = state.server.wall_ms;
  goodput.update(chosen ? view.models.get(chosen)?.history || [] : view.history, to - KEEP_MS, to);
  advice.update(view.history, to - KEEP_MS, to);
}

/** Batch sizes of the last minute, of the chosen model or all. */
function showSizes(state) {
  const chosen = $("chart-model").value;
  const counts = new Map();
  let span = 0;
  let limit = 1;
  for (const model of state.models) {
    const key = modelKey(model);
    if (chosen && key !== chosen) continue;
    const before = snapshotBefore(key, state.server.wall_ms, 60000);
    // On the first poll there is nothing to compare with: then it is all since the start.
    const old = new Map(before && before.counts !== model.counts ? before.counts.sizes : []);
    span = Math.max(span, before && before.counts !== model.counts ? state.server.wall_ms - before.at : 0);
    if (model.counts.sizes.length) limit = Math.max(limit, model.batch_max);
    for (const [size, count] of model.counts.sizes) {
      const fresh = count - (old.get(size) || 0);
      if (fresh > 0) counts.set(size, (counts.get(size) || 0) + fresh);
    }
  }
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const all = limit <= 64 && counts.size ? Array.from({ length: Math.max(limit, ...counts.keys()) }, (_, index) => index + 1) : [...counts.keys()].sort((a, b) => a - b);
  const weight = [...counts].reduce((sum, [size, count]) => sum + size * count, 0);
  sizes.update(total ? all.map((size) => [size, (counts.get(size) || 0) / total, counts.get(size) || 0]) : [], total ? weight / total : 0);
  setText($("sizes-sub"), (span === 0 ? "since the start" : span > 55000 ? "last minute" : "last " + Math.round(span / 1000) + " s") + (total ? " · mean " + (weight / total).toFixed(1) : ""));
}

function showTimeline(state) {
  timeline.update(state.server.now_us, state.accelerators, state.timeline.models, state.timeline.spans);
  const seen = [...new Set(timeline.spans.filter((span) => span[0] === SPAN_BATCH).map((span) => span[4]))].sort((a, b) => a - b);
  const keys = seen.join();
  const legend = $("timeline-legend");
  if (legend.dataset.keys !== keys) {
    legend.dataset.keys = keys;
    legend.replaceChildren(...seen.slice(0, 12).map((model) => el("span", {}, el("i", { class: "key k" + (model % 8), "aria-hidden": "true" }), state.timeline.models[model] || "?")),
      el("span", {}, el("i", { class: "key k-window", "aria-hidden": "true" }), "window in which it could start"), el("span", {}, el("i", { class: "key k-rest", "aria-hidden": "true" }), "rest"));
  }
  setText($("timeline-text"), state.accelerators.map((accelerator) => accelerator.name + " is " + accelerator.state + (accelerator.state === "busy" ? " with " + accelerator.model : "") + ", " + accelerator.batches + " batches").join("; "));
}

// --- drops, advice, server, log ---

function showDrops(state) {
  const counts = new Map();
  let span = 0;
  for (const model of state.models) {
    const before = snapshotBefore(modelKey(model), state.server.wall_ms, KEEP_MS);
    if (before && before.counts !== model.counts) span = Math.max(span, state.server.wall_ms - before.at);
    for (const [reason, count] of Object.entries(model.counts.drops)) {
      const fresh = count - (before && before.counts !== model.counts ? before.counts.drops[reason] || 0 : 0);
      if (fresh > 0) counts.set(reason, (counts.get(reason) || 0) + fresh);
    }
  }
  setText($("drops-sub"), span === 0 ? "since the start" : span > KEEP_MS - 5000 ? "last 5 minutes" : "while you watch");
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  const top = sorted.length ? sorted[0][1] : 1;
  const box = $("drops");
  if (!sorted.length) {
    if (!box.querySelector(".all-good")) box.replaceChildren(el("div", { class: "all-good" }, el("b", {}, "Nothing was dropped"), "Every request found its accelerator in time."));
    return;
  }
  const list = el("div", { class: "bars", role: "list" });
  for (const [reason, count] of sorted.slice(0, 6)) {
    const [what, why] = DROP_WORDS[reason] || [reason, ""];
    const bar = el("i");
    bar.style.width = (count / top) * 100 + "%";
    list.append(el("div", { class: "row", role: "listitem" }, el("span", { class: "what" }, what + " ", el("span", { class: "why" }, why)), el("b", {}, formatCount(count)), el("span", { class: "rail", "aria-hidden": "true" }, bar)));
  }
  box.replaceChildren(list);
}

function showAdvice(state) {
  const { up, advice: given } = state.scheduler;
  const box = $("advice");
  const say = (head, more) => {
    if (box.dataset.said === head + more) return;
    box.dataset.said = head + more;
    box.replaceChildren(head, el("small", {}, more));
  };
  const many = (count) => count + (count === 1 ? " accelerator" : " accelerators");
  if (!given) say("No advice", "autoscale advice is switched off");
  else if (given.missing > 0) say("Add " + many(given.missing), given.wanted + " wanted, " + up + " up, for " + formatDuration(given.age_ms));
  else if (given.could_go > 0) say(many(given.could_go) + " could go", given.wanted + " wanted, " + up + " up, for " + formatDuration(given.age_ms));
  else say("Just right", given.wanted + " wanted, " + up + " up, for " + formatDuration(given.age_ms));
}

let cpuBefore = null;

function showServer(state) {
  const server = state.server;
  const cpu = cpuBefore && server.now_us > cpuBefore.now_us ? ((server.cpu_ms - cpuBefore.cpu_ms) * 1000) / (server.now_us - cpuBefore.now_us) : NaN;
  cpuBefore = { cpu_ms: server.cpu_ms, now_us: server.now_us };
  const lag = Math.max(0, ...state.loops.map((loop) => loop.lag_ms));
  const facts = [
    ["Version", server.version + (server.commit ? " (" + server.commit.slice(0, 8) + ")" : "")],
    ["Policy", server.policy],
    ["Up for", formatDuration(server.wall_ms - server.start_ms)],
    ["CPU", Number.isFinite(cpu) ? cpu.toFixed(2) + " of " + server.cpus + " cores" : server.cpus + " cores"],
    ["Memory", formatBytes(server.resident) + ", at most " + formatBytes(server.peak)],
    ["Event loops", state.loops.length + ", longest turn " + formatMs(lag)],
    ["Requests", formatCount(state.loops.reduce((sum, loop) => sum + loop.requests, 0)) + " taken, " + formatCount(state.loops.reduce((sum, loop) => sum + loop.rejected, 0)) + " malformed"],
    ["Traffic", formatBytes(state.loops.reduce((sum, loop) => sum + loop.received, 0)) + " in, " + formatBytes(state.loops.reduce((sum, loop) => sum + loop.sent, 0)) + " out"],
    ["Files open", formatCount(server.descriptors) + " of " + formatCount(server.descriptors_max)],
  ];
  const list = $("server");
  if (list.children.length !== facts.length * 2) list.replaceChildren(...facts.flatMap(([name]) => [el("dt", {}, name), el("dd")]));
  facts.forEach(([, value], index) => setText(list.children[index * 2 + 1], value));
}

const LEVELS = { debug: 0, info: 1, warning: 2, error: 3 };

function logLine(record) {
  const { time, level, event, ...fields } = record;
  const text = el("span", { class: "text" }, el("span", { class: "event" }, event || ""));
  for (const [key, value] of Object.entries(fields)) text.append(el("span", { class: "pair" }, el("em", {}, key + "="), typeof value === "string" ? value : JSON.stringify(value)), " ");
  const moment = new Date(time);
  return el("li", { class: level }, el("time", { datetime: time || "", title: time || "" }, Number.isNaN(+moment) ? "" : formatClock(+moment)), el("span", { class: "level" }, level || ""), text);
}

function showLog(state) {
  const least = Number($("log-level").value);
  const search = $("log-search").value.trim().toLowerCase();
  const shown = state.log.filter((record) => (LEVELS[record.level] ?? 1) >= least && (!search || JSON.stringify(record).toLowerCase().includes(search)));
  const list = $("log");
  const key = least + search + shown.length + JSON.stringify(shown[shown.length - 1] || "");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...shown.reverse().map(logLine));
  $("log-empty").hidden = shown.length > 0;
  setText($("log-empty"), state.log.length ? "No record fits." : "Nothing was logged.");
}

function showStatus(state) {
  const { server } = state;
  const broken = state.models.filter((model) => model.state === "UNAVAILABLE").length;
  const [mood, text] = server.draining ? ["warn", "Draining"] : !server.ready ? ["warn", "Not ready"] : ["good", "Ready"];
  $("status").className = "pill " + (view.paused ? "" : mood);
  setText($("status-text"), view.paused ? "Paused" : text);
  $("status").title = broken ? broken + " unavailable" : "";
  setText($("host"), server.host);
  document.title = (server.host ? server.host + " · " : "") + "Fermata";
  setText($("foot"), "Fermata " + server.version + " · " + server.build);
}

function show(state) {
  showStatus(state);
  showChoices(state);
  showTiles(state);
  showGoodput(state);
  showSizes(state);
  showModels(state);
  showTimeline(state);
  showDrops(state);
  showAdvice(state);
  showServer(state);
  showLog(state);
}

// --- polling: once a second, slower while the server does not answer, not at all while nobody looks ---

let timer = 0;
let failures = 0;

async function poll() {
  clearTimeout(timer);
  if (document.hidden || view.paused) return;
  try {
    const newest = view.history.length ? view.history[view.history.length - 1].at : 0;
    const answer = await ask("debug/state?since=" + view.since + "&history=" + newest, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (!answer.ok) throw new Error("the server answered " + answer.status);
    const state = await answer.json();
    if (state.format !== 1) throw new Error("this page is older or newer than the server; load it again");
    // A little overlap: a span may be recorded just after it ended. The timeline knows those it has.
    view.since = Math.max(0, state.server.now_us - OVERLAP_US);
    remember(state);
    if (!view.paused) show(state);
    failures = 0;
    showBanner("");
  } catch (error) {
    failures++;
    if (error.asked) {
      setText($("status-text"), "Locked");
      return;
    }
    if (failures > 1) {
      $("status").className = "pill bad";
      setText($("status-text"), "No contact");
      showBanner("No answer from the server: " + (error.name === "TimeoutError" ? "it took longer than 8 s" : error.message) + ". Trying again.");
    }
  }
  timer = setTimeout(poll, Math.min(10000, POLL_MS * 2 ** Math.max(0, failures - 1)));
}

function setPaused(paused) {
  view.paused = paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  timeline.pause(paused);
  if (view.state) showStatus(view.state);
  if (!paused) poll();
}

Object.assign(tiles, { good: tile("good", "Goodput"), met: tile("met", "In time"), tight: tile("tight", "Tightest p99"), batch: tile("batch", "Mean batch"), use: tile("use", "Accelerators"), wait: tile("wait", "Queue") });
tiles.good.spark = sparkElement();
tiles.good.node.append(tiles.good.spark);
makeModelsHead();
makeCharts();
for (const id of ["log-level", "log-search"]) $(id).addEventListener("input", () => view.state && showLog(view.state));
$("chart-model").addEventListener("change", () => {
  if (view.state) {
    showGoodput(view.state);
    showSizes(view.state);
  }
});
$("pause").addEventListener("click", () => setPaused(!view.paused));
addEventListener("keydown", (event) => {
  if (event.key === " " && event.target === document.body) {
    event.preventDefault();
    setPaused(!view.paused);
  }
});
addEventListener("themechange", () => view.state && show(view.state));
addEventListener("tokenchange", poll);
document.addEventListener("visibilitychange", () => !document.hidden && poll());
poll();
