// The try-it page: an image or JSON to a model, and what comes back.
"use strict";

const RAW_MAX = 20000;
const VALUES_MAX = 512;
const page = { models: [], model: null, file: null, bitmap: null, mode: "image" };
const NUMBER_BYTES = { BOOL: 1, UINT8: 1, INT8: 1, UINT16: 2, INT16: 2, FP16: 2, BF16: 2, UINT32: 4, INT32: 4, FP32: 4, UINT64: 8, INT64: 8, FP64: 8 };
const SCALES = {
  imagenet: (value, channel) => (value / 255 - [0.485, 0.456, 0.406][channel]) / [0.229, 0.224, 0.225][channel],
  unit: (value) => value / 255,
  signed: (value) => value / 127.5 - 1,
  byte: (value) => value,
};

const path = (model) => "v2/models/" + encodeURIComponent(model.name) + (model.version ? "/versions/" + encodeURIComponent(model.version) : "") + "/infer";
const shapeText = (shape) => "[" + shape.map((size) => (size < 0 ? "any" : size)).join(", ") + "]";

// --- models ---

async function loadModels() {
  try {
    const answer = await ask("debug/state", { cache: "no-store" });
    if (!answer.ok) throw new Error("the server answered " + answer.status);
    page.models = (await answer.json()).models.filter((model) => model.state === "READY");
  } catch (error) {
    if (!error.asked) showBanner("The list of models cannot be had: " + error.message + ". Load this page again.");
    return;
  }
  const wanted = new URLSearchParams(location.search);
  $("model").replaceChildren(...page.models.map((model, index) => el("option", { value: index }, model.name + "  v" + model.version)));
  const at = page.models.findIndex((model) => model.name === wanted.get("model") && (!wanted.get("version") || model.version === wanted.get("version")));
  $("model").value = String(Math.max(0, at));
  if (!page.models.length) {
    showBanner("No model is ready. Look at the overview for the reason.");
    $("send").disabled = true;
    return;
  }
  choose();
}

function choose() {
  page.model = page.models[Number($("model").value)];
  const row = (way, port) => el("div", { class: "port" }, el("span", { class: "way" }, way), el("b", {}, port.name), el("code", {}, port.datatype + " " + shapeText(port.shape)));
  $("ports").replaceChildren(...page.model.inputs.map((port) => row("takes", port)), ...page.model.outputs.map((port) => row("gives", port)));
  const plan = imagePlan();
  $("tab-image").disabled = !plan;
  $("image-fields").hidden = !plan || plan.kind === "file";
  if (plan && plan.kind === "pixels") {
    $("width").value = plan.width > 0 ? plan.width : 224;
    $("height").value = plan.height > 0 ? plan.height : 224;
    $("width").disabled = plan.width > 0;
    $("height").disabled = plan.height > 0;
    $("scale").value = plan.datatype === "UINT8" ? "byte" : "imagenet";
  }
  setText($("image-note"), !plan ? "" : plan.kind === "file" ? "The file is sent as it is." : "The image is scaled here and sent as " + plan.datatype + " " + (plan.planar ? "planes (channels first)" : "pixels (channels last)") + ".");
  $("json").value = pretty(example(page.model));
  setText($("json-error"), "");
  const numbers = page.model.outputs.some((port) => port.datatype.startsWith("FP") && port.shape.length === 2 && port.shape[1] > 2);
  $("classes").value = numbers ? 5 : 0;
  // Bytes may be a file or words: what they are called has to tell.
  const words = plan?.kind === "file" && page.model.kind !== "pipeline" && !/image|img|photo|pic|jpe?g|png|file|frame/i.test(page.model.inputs[0].name);
  setMode(plan && !words ? "image" : "json");
}

/** JSON with its lists of numbers and of single words on one line. */
function pretty(value) {
  return JSON.stringify(value, null, 2).replace(/\[\s+((?:(?:-?[\d.e+-]+|true|false|"\w*")(?:,\s+)?)+)\s+\]/g, (list, inner) => "[" + inner.replace(/,\s+/g, ", ") + "]");
}

/** How an image can be sent to the model: as a file, as pixels, or (null) not at all. */
function imagePlan() {
  const inputs = page.model.inputs;
  if (inputs.length !== 1) return null;
  const { datatype, shape } = inputs[0];
  if (datatype === "BYTES") return { kind: "file" };
  if (!["FP32", "UINT8"].includes(datatype) || shape.length < 3 || shape.length > 4) return null;
  const [a, b, c] = shape.slice(-3);
  const planar = a === 3 || a === 1;
  if (!planar && c !== 3 && c !== 1) return null;
  return { kind: "pixels", datatype, planar, channels: planar ? a : c, height: planar ? b : a, width: planar ? c : b, batch: shape.length === 4 };
}

/** A request that the model takes, small where it may be. */
function example(model) {
  const fill = (datatype, count) => Array.from({ length: count }, (_, index) => (datatype === "BYTES" ? "text" : datatype === "BOOL" ? false : datatype.startsWith("FP") ? (index % 10) / 10 : index % 10));
  return { inputs: model.inputs.map((port) => {
    const shape = port.shape.map((size, index) => (size < 0 ? (index === 0 ? 1 : port.datatype === "BYTES" ? 1 : 4) : size));
    const count = shape.reduce((product, size) => product * size, 1);
    return { name: port.name, shape, datatype: port.datatype, data: count <= 4096 ? fill(port.datatype, count) : "fill in " + count + " values" };
  }) };
}

// --- what to send ---

function setMode(mode) {
  page.mode = mode;
  for (const name of ["image", "json"]) {
    const tab = $("tab-" + name);
    tab.setAttribute("aria-selected", String(name === mode));
    tab.tabIndex = name === mode ? 0 : -1;
    $("panel-" + name).hidden = name !== mode;
  }
}

async function setFile(file) {
  if (!file) return;
  page.file = file;
  page.bitmap?.close();
  page.bitmap = null;
  try {
    page.bitmap = await createImageBitmap(file);
  } catch {
    // A file that the browser cannot show may still be one that the model reads.
  }
  const preview = $("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = !page.bitmap;
  if (page.bitmap) preview.src = URL.createObjectURL(file);
  setText($("drop-text"), file.name + " · " + formatBytes(file.size) + (page.bitmap ? " · " + page.bitmap.width + " × " + page.bitmap.height : ""));
}

/** The chosen image as the tensor that the model takes. */
function pixels(plan) {
  const width = Number($("width").value);
  const height = Number($("height").value);
  if (!(width >= 1 && width <= 4096 && height >= 1 && height <= 4096)) throw new Error("Width and height must be 1 to 4096.");
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(page.bitmap, 0, 0, width, height);
  const from = pen.getImageData(0, 0, width, height).data;
  const scale = SCALES[$("scale").value];
  const count = width * height;
  const values = plan.datatype === "UINT8" ? new Uint8ClampedArray(count * plan.channels) : new Float32Array(count * plan.channels);
  for (let at = 0; at < count; at++) {
    const gray = 0.299 * from[at * 4] + 0.587 * from[at * 4 + 1] + 0.114 * from[at * 4 + 2];
    for (let channel = 0; channel < plan.channels; channel++) {
      const value = scale(plan.channels === 1 ? gray : from[at * 4 + channel], channel);
      values[plan.planar ? channel * count + at : at * plan.channels + channel] = value;
    }
  }
  const shape = plan.planar ? [plan.channels, height, width] : [height, width, plan.channels];
  return { shape: plan.batch ? [1, ...shape] : shape, bytes: new Uint8Array(values.buffer) };
}

/** Parameters that the form asks for. */
function finish(document_) {
  const classes = Number($("classes").value);
  const timeout = Number($("timeout").value);
  if (classes > 0 && !document_.outputs) document_.outputs = page.model.outputs.map((port) => ({ name: port.name, parameters: { classification: classes } }));
  if (timeout > 0) document_.parameters = { ...document_.parameters, timeout: Math.round(timeout * 1000) };
  return document_;
}

/** {headers, body, json}: json is set where the body is nothing else. */
function request() {
  if (page.mode === "json") {
    let document_;
    try {
      document_ = JSON.parse($("json").value);
    } catch (error) {
      throw new Error("This is not JSON: " + error.message);
    }
    const json = JSON.stringify(finish(document_));
    return { headers: { "Content-Type": "application/json" }, body: json, json };
  }
  if (!page.file) throw new Error("Choose an image first.");
  const plan = imagePlan();
  if (plan.kind === "file") return { headers: { "Content-Type": page.file.type.startsWith("image/") ? page.file.type : "image/*" }, body: page.file };
  if (!page.bitmap) throw new Error("The browser cannot read " + page.file.name + " as an image.");
  const { shape, bytes } = pixels(plan);
  const head = new TextEncoder().encode(JSON.stringify(finish({ inputs: [{ name: page.model.inputs[0].name, shape, datatype: plan.datatype, parameters: { binary_data_size: bytes.length } }] })));
  return { headers: { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(head.length) }, body: new Blob([head, bytes]) };
}

// --- the answer ---

function time(name, ms) {
  const [number, unit] = splitMs(ms);
  return el("div", {}, el("span", {}, name), el("b", {}, number), el("small", {}, unit));
}

/** "11.2:207:golden retriever" as bars. */
function classesElement(rows, each) {
  const parsed = rows.map((row) => {
    const [value, index, ...label] = String(row).split(":");
    return { value: Number(value), name: label.join(":") || "class " + index };
  });
  const list = el("div", { class: "bars plain-bars", role: "list" });
  const groups = [];
  for (let at = 0; at < parsed.length; at += each) groups.push(parsed.slice(at, at + each));
  for (const group of groups) {
    const top = group[0]?.value ?? 0;
    const share = group.every((row) => row.value >= 0 && row.value <= 1) ? (row) => row.value : (row) => Math.exp(row.value - top);
    for (const row of group) {
      const bar = el("i");
      bar.style.width = Math.max(0, Math.min(1, share(row))) * 100 + "%";
      list.append(el("div", { class: "row", role: "listitem" }, el("span", { class: "what" }, row.name), el("b", {}, row.value.toPrecision(4)), el("span", { class: "rail", "aria-hidden": "true" }, bar)));
    }
  }
  return list;
}

function numbersElement(data) {
  const values = data.filter((value) => typeof value === "number" || typeof value === "boolean").map(Number);
  if (data.length === 1) return el("div", { class: "big" }, String(values.length ? Number(values[0].toPrecision(7)) : data[0]));
  const box = el("div", {});
  const low = values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  if (values.length > 8) {
    const shown = values.slice(0, VALUES_MAX);
    const chart = svg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", class: "spark", "aria-label": "Values from " + low.toPrecision(4) + " to " + high.toPrecision(4) });
    const points = shown.map((value, index) => [(index / (shown.length - 1)) * 100, 29 - ((value - low) / Math.max(1e-12, high - low)) * 28]);
    chart.append(svg("path", { class: "line", d: linePath(points) }));
    box.append(el("div", { class: "chart" }, chart));
    box.append(el("p", { class: "note" }, values.length + " values" + (values.length > VALUES_MAX ? ", the first " + VALUES_MAX + " are drawn" : "") + " · from " + low.toPrecision(4) + " to " + high.toPrecision(4) + " · mean " + mean.toPrecision(4)));
  }
  box.append(el("pre", { tabindex: "0" }, data.slice(0, 64).map((value) => (typeof value === "number" ? Number(value.toPrecision(6)) : String(value))).join(", ") + (data.length > 64 ? ", …" : "")));
  return box;
}

function outputElement(output) {
  const data = (output.data || []).flat(Infinity);
  const rows = data.length && data.every((value) => typeof value === "string" && /^-?[\d.eE+-]+:\d+/.test(value));
  const each = output.shape?.length > 1 ? output.shape[output.shape.length - 1] : data.length;
  const body = rows ? classesElement(data, each) : output.datatype === "BYTES" ? el("div", { class: "texts" }, ...data.slice(0, 200).map((text) => el("p", {}, String(text)))) : numbersElement(data);
  return el("div", { class: "output" }, el("h3", {}, output.name, el("code", {}, output.datatype + " " + shapeText(output.shape || []))), body);
}

function showAnswer(result) {
  const { status, text, times, size } = result;
  $("answer-empty").hidden = true;
  const pill = $("answer-status");
  pill.hidden = false;
  pill.className = "pill quiet " + (status < 300 ? "good" : "bad");
  setText(pill, status + (status < 300 ? " OK" : ""));
  const sorted = [...times].sort((a, b) => a - b);
  const box = $("times");
  box.hidden = false;
  if (times.length === 1) box.replaceChildren(time("Round trip", times[0]), el("div", {}, el("span", {}, "Sent"), el("b", {}, formatBytes(size))), el("div", {}, el("span", {}, "Received"), el("b", {}, formatBytes(text.length))));
  else box.replaceChildren(time("Median", sorted[sorted.length >> 1]), time("Fastest", sorted[0]), time("Slowest", sorted[sorted.length - 1]), el("div", {}, el("span", {}, "Answered well"), el("b", {}, result.good + " of " + times.length)));
  let document_ = null;
  try {
    document_ = JSON.parse(text);
  } catch {
    // Shown as it came.
  }
  const outputs = $("outputs");
  if (document_?.error || status >= 300) outputs.replaceChildren(el("p", { class: "failure" }, document_?.error || "The server answered " + status + "."));
  else if (document_?.outputs) outputs.replaceChildren(...document_.outputs.map(outputElement));
  else outputs.replaceChildren(el("p", { class: "note" }, "The answer is no inference document; see below."));
  $("raw").hidden = false;
  const shown = document_ && text.length < RAW_MAX ? JSON.stringify(document_, null, 2) : text;
  setText($("raw-text"), shown.length > RAW_MAX ? shown.slice(0, RAW_MAX) + "\n…" : shown);
}

async function send(event) {
  event.preventDefault();
  setText($("json-error"), "");
  let built;
  try {
    built = request();
  } catch (error) {
    setText(page.mode === "json" ? $("json-error") : $("image-note"), error.message);
    return;
  }
  const button = $("send");
  button.disabled = true;
  const count = Number($("repeat").value);
  const times = [];
  let good = 0;
  let last = null;
  try {
    for (let turn = 0; turn < count; turn++) {
      setText(button, count > 1 ? "Sending " + (turn + 1) + " of " + count : "Sending");
      const start = performance.now();
      const answer = await ask(path(page.model), { method: "POST", headers: built.headers, body: built.body });
      const text = await answer.text();
      times.push(performance.now() - start);
      good += answer.ok ? 1 : 0;
      last = { status: answer.status, text };
    }
    showAnswer({ ...last, times, good, size: built.body.size ?? new TextEncoder().encode(built.body).length });
    showBanner("");
  } catch (error) {
    if (!error.asked) showBanner("The request did not get through: " + error.message);
  }
  button.disabled = false;
  setText(button, "Send");
}

/** For a shell: quotes within the text are closed, escaped and opened again. */
const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

async function copyCurl() {
  let command;
  try {
    const built = page.mode === "image" && imagePlan().kind === "pixels" ? { json: JSON.stringify(finish(example(page.model))) } : request();
    const url = new URL(path(page.model), document.baseURI).href;
    command = built.json ? "curl -s " + quoted(url) + " -d " + quoted(built.json) : "curl -s -H " + quoted("Content-Type: " + built.headers["Content-Type"]) + " --data-binary @" + quoted(page.file.name) + " " + quoted(url);
    await navigator.clipboard.writeText(command);
    setText($("copied"), "Copied");
  } catch (error) {
    setText($("copied"), command ? "The browser does not let this page copy" : error.message);
  }
  setTimeout(() => setText($("copied"), ""), 4000);
}

$("model").addEventListener("change", choose);
$("form").addEventListener("submit", send);
$("curl").addEventListener("click", copyCurl);
$("file").addEventListener("change", () => setFile($("file").files[0]));
for (const name of ["image", "json"]) $("tab-" + name).addEventListener("click", () => setMode(name));
$("modes").addEventListener("keydown", (event) => {
  if (!["ArrowLeft", "ArrowRight"].includes(event.key) || $("tab-image").disabled) return;
  const other = page.mode === "image" ? "json" : "image";
  setMode(other);
  $("tab-" + other).focus();
});
for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
});
$("drop").addEventListener("drop", (event) => setFile(event.dataTransfer.files[0]));
addEventListener("tokenchange", () => page.models.length || loadModels());
loadModels();
