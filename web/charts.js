// Charts, drawn as SVG (some hundred points) and, for the accelerators, on a canvas (some thousand spans).
"use strict";

/** Round steps for an axis that begins at 0: at most `count` of them. */
function niceTicks(top, count) {
  const rough = Math.max(top, 1e-9) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const ticks = [];
  for (let value = 0; value <= top + step * 0.999; value += step) ticks.push(Number(value.toPrecision(12)));
  return ticks;
}

function linePath(points) {
  return points.map(([x, y], index) => (index ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1)).join("");
}

/** A small line without axes, for tables and tiles. */
function sparkPaths(values) {
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, index) => [(index / Math.max(1, values.length - 1)) * 100, 29 - (value / top) * 26]);
  const line = linePath(points);
  return [line, line + "L100 30L0 30Z"];
}

function sparkElement() {
  const node = svg("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  node.append(svg("path", { class: "fill" }), svg("path", { class: "line" }));
  return node;
}

function sparkUpdate(node, values) {
  const [line, fill] = values.length > 1 ? sparkPaths(values) : ["", ""];
  node.children[1].setAttribute("d", line);
  node.children[0].setAttribute("d", fill);
}

/**
 * Values over time. options: {layers: [{key, label, area, line}], stacked, label, legend, unit, ticks}. Rows are {at, <key>: number}.
 * With the pointer or the arrow keys one looks at a moment; the legend then shows its values.
 */
class TimeChart {
  constructor(box, options) {
    this.box = box;
    this.options = options;
    this.rows = [];
    this.at = null;
    this.svg = svg("svg", { role: "img", tabindex: "0" });
    box.append(this.svg);
    if (options.legend) {
      this.values = options.layers.map((layer) => {
        const value = el("b", {}, "–");
        options.legend.append(el("span", {}, el("i", { class: "key " + layer.key_class, "aria-hidden": "true" }), layer.label + " ", value));
        return value;
      });
      this.moment = el("span", { class: "moment" });
      options.legend.append(this.moment);
    }
    new ResizeObserver(() => this.draw()).observe(box);
    this.svg.addEventListener("pointermove", (event) => {
      const place = this.svg.getBoundingClientRect();
      this.look((event.clientX - place.left - this.left) / Math.max(1, this.width));
    });
    this.svg.addEventListener("pointerleave", () => this.look(null));
    this.svg.addEventListener("blur", () => this.look(null));
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && this.rows.length > 1) {
        event.preventDefault();
        const last = this.rows.length - 1;
        this.at = Math.min(last, Math.max(0, (this.at === null ? last : this.at) + step));
        this.draw();
      } else if (event.key === "Escape") this.look(null);
    });
  }

  look(share) {
    if (share === null || this.rows.length < 2) this.at = null;
    else {
      const time = this.from + share * (this.to - this.from);
      let best = 0;
      this.rows.forEach((row, index) => {
        if (Math.abs(row.at - time) < Math.abs(this.rows[best].at - time)) best = index;
      });
      this.at = best;
    }
    this.draw();
  }

  update(rows, from, to) {
    const watched = this.at === null ? null : this.rows[this.at]?.at;
    this.rows = rows;
    this.from = from;
    this.to = to;
    if (watched) {
      const index = rows.findIndex((row) => row.at === watched);
      this.at = index < 0 ? null : index;
    }
    this.draw();
  }

  draw() {
    const { clientWidth, clientHeight } = this.box;
    if (!clientWidth || !this.to) return;
    const { layers, stacked } = this.options;
    this.left = this.options.left ?? 42;
    this.width = clientWidth - this.left - 4;
    const height = clientHeight - 32;
    const sums = this.rows.map((row) => (stacked ? layers.reduce((sum, layer) => sum + (row[layer.key] || 0), 0) : Math.max(...layers.map((layer) => row[layer.key] || 0))));
    const ticks = niceTicks(Math.max(...sums, this.options.least || 1) * 1.04, height > 130 ? 4 : 2);
    const top = ticks[ticks.length - 1];
    const x = (time) => this.left + ((time - this.from) / (this.to - this.from)) * this.width;
    const y = (value) => 8 + height - (value / top) * height;
    const axis = svg("g", { class: "axis", "aria-hidden": "true" });
    for (const tick of ticks) {
      axis.append(svg("line", { x1: this.left, x2: this.left + this.width, y1: Math.round(y(tick)) + 0.5, y2: Math.round(y(tick)) + 0.5 }));
      const text = svg("text", { x: this.left - 8, y: y(tick) + 4, "text-anchor": "end" });
      text.textContent = formatCount(tick);
      axis.append(text);
    }
    const minutes = Math.max(1, Math.round((this.to - this.from) / 60000));
    const every = clientWidth < 420 && minutes > 3 ? 2 : 1;
    for (let minute = 0; minute <= minutes; minute += every) {
      const text = svg("text", { x: x(this.to - minute * 60000), y: clientHeight - 5, "text-anchor": minute === 0 ? "end" : minute === minutes ? "start" : "middle" });
      text.textContent = minute === 0 ? "now" : "−" + minute + " min";
      axis.append(text);
    }
    const shapes = svg("g", { "aria-hidden": "true" });
    let floor = this.rows.map(() => 0);
    for (const layer of layers) {
      const roof = this.rows.map((row, index) => (stacked ? floor[index] : 0) + (row[layer.key] || 0));
      const upper = this.rows.map((row, index) => [x(row.at), y(roof[index])]);
      if (layer.area && upper.length > 1) {
        const lower = this.rows.map((row, index) => [x(row.at), y(stacked ? floor[index] : 0)]).reverse();
        shapes.append(svg("path", { class: layer.area, d: linePath(upper) + linePath(lower).replace("M", "L") + "Z" }));
      }
      if (layer.line && upper.length > 1) shapes.append(svg("path", { class: layer.line, d: linePath(upper) }));
      if (stacked) floor = roof;
    }
    const shown = this.rows[this.at ?? this.rows.length - 1];
    if (this.at !== null && shown) shapes.append(svg("line", { class: "cursor", x1: x(shown.at), x2: x(shown.at), y1: 8, y2: 8 + height }));
    this.svg.replaceChildren(axis, shapes);
    if (this.values) {
      layers.forEach((layer, index) => setText(this.values[index], shown ? formatCount(shown[layer.key] || 0) + (this.options.unit || "") : "–"));
      setText(this.moment, this.at !== null && shown ? "at " + formatClock(shown.at) : "");
    }
    const words = shown ? layers.map((layer) => layer.label + " " + formatCount(shown[layer.key] || 0)).join(", ") : "no data yet";
    this.svg.setAttribute("aria-label", this.options.label + ": " + (this.at === null ? "now " : "at " + formatClock(shown.at) + " ") + words + ". Arrow keys look back.");
  }
}

/** Bars for counts by size; mean marks the mean. rows: [[size, share 0..1, count]]. */
class SizeChart {
  constructor(box) {
    this.box = box;
    this.rows = [];
    this.svg = svg("svg", { role: "img" });
    box.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(box);
  }

  update(rows, mean) {
    this.rows = rows;
    this.mean = mean;
    this.draw();
  }

  draw() {
    const { clientWidth, clientHeight } = this.box;
    if (!clientWidth) return;
    if (!this.rows.length) {
      const text = svg("text", { x: clientWidth / 2, y: clientHeight / 2, "text-anchor": "middle" });
      text.textContent = "No batch ran lately";
      this.svg.replaceChildren(svg("g", { class: "axis" }, text));
      this.svg.setAttribute("aria-label", "Batch sizes: no batch ran lately");
      return;
    }
    const height = clientHeight - 46;
    const gap = this.rows.length > 24 ? 1 : this.rows.length > 12 ? 3 : 7;
    const wide = (clientWidth - 4) / this.rows.length;
    const top = Math.max(...this.rows.map((row) => row[1]), 0.01);
    const marks = svg("g", {});
    const every = Math.ceil(26 / wide);
    this.rows.forEach(([size, share], index) => {
      const tall = Math.max(share > 0 ? 2 : 0, (share / top) * height);
      const x = 2 + index * wide;
      marks.append(svg("rect", { class: "bar-rect", x: x + gap / 2, width: Math.max(1, wide - gap), y: 18 + height - tall, height: tall, rx: Math.min(4, wide / 4) }));
      if (wide >= 30) {
        const value = svg("text", { class: "bar-value", x: x + wide / 2, y: 18 + height - tall - 5 });
        value.textContent = share >= 0.005 ? Math.round(share * 100) + "%" : share > 0 ? "<1%" : "";
        marks.append(value);
      }
      if (index % every === 0) {
        const label = svg("text", { x: x + wide / 2, y: clientHeight - 10, "text-anchor": "middle" });
        label.textContent = size;
        marks.append(svg("g", { class: "axis" }, label));
      }
    });
    marks.append(svg("g", { class: "axis" }, svg("line", { x1: 2, x2: clientWidth - 2, y1: 18.5 + height, y2: 18.5 + height })));
    this.svg.replaceChildren(marks);
    this.svg.setAttribute("aria-label", "Batch sizes: " + this.rows.filter((row) => row[1] > 0).map((row) => row[0] + " rows " + Math.round(row[1] * 100) + " %").join(", ") + "; mean " + this.mean.toFixed(1));
  }
}

const SPAN_BATCH = 0;
const SPAN_REST = 1;
const SPAN_WINDOW = 2;

/**
 * Accelerators over the last seconds: batches as blocks in the colour of their model, the window in which each could have started as a
 * bracket above it, rests hatched. Moves with the clock; the pointer or the arrow keys look at one block.
 */
class Timeline {
  constructor(canvas, readout) {
    this.canvas = canvas;
    this.readout = readout;
    this.spans = [];
    this.names = [];
    this.models = [];
    this.seconds = 0.5;
    this.now_us = 0;
    this.seen_at = 0;
    this.paused = false;
    this.chosen = null;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.colors();
    addEventListener("themechange", () => this.colors());
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => {
      const place = canvas.getBoundingClientRect();
      this.point(event.clientX - place.left, event.clientY - place.top);
    });
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("blur", () => this.choose(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    let before = 0;
    const frame = (time) => {
      if (!this.paused && !this.still.matches && !document.hidden && time - before > 30) {
        before = time;
        this.draw();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  colors() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    this.color = { ink: get("--ink"), soft: get("--soft"), faint: get("--faint"), line: get("--line"), fill: get("--fill"), card: get("--card"), block: get("--on-block"), model: [0, 1, 2, 3, 4, 5, 6, 7].map((n) => get("--c" + n)) };
    this.draw();
  }

  /** names: of accelerators with their state; models: names; spans: new ones as the state has them. */
  update(now_us, names, models, spans) {
    if (now_us < this.now_us) this.spans = [];
    const known = new Set(this.spans.map((span) => span[0] + "," + span[1] + "," + span[2]));
    const fresh = spans.filter((span) => !known.has(span[0] + "," + span[1] + "," + span[2]));
    this.now_us = now_us;
    this.seen_at = performance.now();
    this.names = names;
    this.models = models;
    this.spans = this.spans.concat(fresh).filter((span) => span[2] + span[3] > now_us - 12e6);
    if (this.still.matches) this.draw();
  }

  /** The right edge: a little behind the last state, so that there is always something to move into. */
  edge() {
    if (this.paused) return this.frozen;
    const moved = this.still.matches ? 0 : Math.min(1500, performance.now() - this.seen_at) * 1000;
    return this.now_us - 1.1e6 + moved;
  }

  pause(paused) {
    this.frozen = this.edge();
    this.paused = paused;
    if (!paused) this.frozen = 0;
    this.draw();
  }

  place() {
    const width = this.canvas.parentElement.clientWidth;
    const narrow = width < 520;
    const count = this.names.length;
    const row = count > 32 ? 13 : count > 12 ? 21 : narrow ? 26 : 30;
    return { width, row, head: row > 20 ? 7 : 3, foot: row > 20 ? 3 : 2, left: narrow ? 52 : 78, top: 22 };
  }

  x(us, place, edge) {
    return place.left + ((us - (edge - this.seconds * 1e6)) / (this.seconds * 1e6)) * (place.width - place.left - 2);
  }

  draw() {
    const place = this.place();
    const count = Math.max(1, this.names.length);
    const height = place.top + count * place.row + 4;
    const scale = devicePixelRatio || 1;
    const { canvas, color } = this;
    if (!place.width) return;
    if (canvas.width !== Math.round(place.width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(place.width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.height = height + "px";
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, place.width, height);
    const family = getComputedStyle(document.body).fontFamily;
    const edge = this.edge();
    const start = edge - this.seconds * 1e6;
    this.axis(pen, place, edge, height, family);
    this.names.forEach((name, index) => {
      const y = place.top + index * place.row;
      pen.fillStyle = color.fill;
      pen.globalAlpha = 0.5;
      pen.fillRect(place.left, y + place.head, place.width - place.left - 2, place.row - place.head - place.foot);
      pen.globalAlpha = 1;
      pen.fillStyle = name.state === "down" ? color.faint : color.soft;
      pen.font = Math.min(12, place.row - 3) + "px " + family;
      pen.textAlign = "left";
      const base = y + (place.row + place.head - place.foot) / 2 + 4;
      pen.fillText(this.fit(pen, name.name, place.left - 8), 0, base);
      if (name.state === "down") pen.fillText("down", place.left + 8, base);
    });
    pen.save();
    pen.beginPath();
    pen.rect(place.left, 0, place.width - place.left - 2, height);
    pen.clip();
    for (const kind of [SPAN_REST, SPAN_WINDOW, SPAN_BATCH]) {
      for (const span of this.spans) {
        if (span[0] === kind && span[2] < edge && span[2] + span[3] > start && span[1] < this.names.length) this.span(pen, span, place, edge, family);
      }
    }
    pen.restore();
  }

  axis(pen, place, edge, height, family) {
    const step = { 0.1: 20, 0.5: 100, 2: 500, 5: 1000 }[this.seconds] || 500;
    const narrow = place.width < 520;
    pen.font = "11.5px " + family;
    pen.textAlign = "center";
    for (let ms = 0; ms <= this.seconds * 1000; ms += step) {
      const x = Math.round(this.x(edge - ms * 1000, place, edge)) - 0.5;
      pen.strokeStyle = this.color.line;
      pen.beginPath();
      pen.moveTo(x, place.top);
      pen.lineTo(x, height);
      pen.stroke();
      if (narrow && (ms / step) % 2 === 1) continue;
      pen.fillStyle = this.color.soft;
      pen.textAlign = ms === 0 ? "right" : "center";
      pen.fillText(ms === 0 ? "now" : ms < 1000 ? "−" + ms + " ms" : "−" + ms / 1000 + " s", x, 13);
    }
  }

  span(pen, span, place, edge, family) {
    const [kind, row, from, length, model, rows] = span;
    const x = this.x(from, place, edge);
    const wide = Math.max(1, this.x(from + length, place, edge) - x);
    const y = place.top + row * place.row;
    const color = model < 0 ? this.color.faint : this.color.model[model % 8];
    if (kind === SPAN_REST) {
      // Only what is seen: a long rest is a thousand screens wide when one looks closely.
      const left = Math.max(x, place.left - 12);
      this.hatch(pen, left, y + place.head, Math.min(x + wide, place.width) - left, place.row - place.head - place.foot);
    } else if (kind === SPAN_WINDOW) {
      pen.strokeStyle = color;
      pen.lineWidth = 1.5;
      pen.globalAlpha = 0.8;
      pen.beginPath();
      const roof = place.head > 5 ? 2.5 : 1;
      pen.moveTo(x + 1, y + place.head - 1);
      pen.lineTo(x + 1, y + roof);
      pen.lineTo(x + wide - 1, y + roof);
      pen.lineTo(x + wide - 1, y + place.head - 1);
      pen.stroke();
      pen.globalAlpha = 1;
      pen.lineWidth = 1;
    } else {
      pen.fillStyle = color;
      pen.beginPath();
      pen.roundRect(x, y + place.head, Math.max(1.5, wide - 1), place.row - place.head - place.foot, Math.min(4, wide / 3));
      pen.fill();
      if (this.chosen === span) {
        pen.strokeStyle = this.color.ink;
        pen.lineWidth = 2;
        pen.stroke();
        pen.lineWidth = 1;
      }
      if (place.row < 20) return;
      pen.fillStyle = this.color.block;
      pen.textAlign = "left";
      pen.font = "600 11.5px " + family;
      const name = this.models[model] || "";
      const long = name + " ×" + rows;
      const left = Math.max(x, place.left);
      const room = x + wide - left - 10;
      const text = pen.measureText(long).width < room ? long : pen.measureText("×" + rows).width < room ? "×" + rows : "";
      pen.fillText(text, left + 5, y + (place.row + place.head - place.foot) / 2 + 4);
    }
  }

  hatch(pen, x, y, wide, tall) {
    pen.save();
    pen.beginPath();
    pen.rect(x, y, Math.max(0, wide - 1), tall);
    pen.clip();
    pen.strokeStyle = this.color.faint;
    pen.globalAlpha = 0.4;
    pen.beginPath();
    for (let at = x - tall - ((x - tall) % 6); at < x + wide; at += 6) {
      pen.moveTo(at, y + tall);
      pen.lineTo(at + tall, y);
    }
    pen.stroke();
    pen.restore();
  }

  fit(pen, text, room) {
    while (text.length > 2 && pen.measureText(text).width > room) text = text.slice(0, -2) + "…";
    return text;
  }

  describe(span) {
    const [kind, row, , length, model, rows] = span;
    const where = this.names[row]?.name || "";
    if (kind === SPAN_REST) return where + " · rest of " + formatMs(length / 1000);
    const window = this.spans.find((other) => other[0] === SPAN_WINDOW && other[1] === row && other[4] === model && other[2] <= span[2] && other[2] + other[3] >= span[2]);
    return where + " · " + (this.models[model] || "?") + " · batch of " + rows + " · ran " + formatMs(length / 1000) +
      (window ? " · window of " + formatMs(window[3] / 1000) + ", started " + formatMs(Math.max(0.001, (span[2] - window[2]) / 1000)) + " into it" : "");
  }

  choose(span) {
    this.chosen = span;
    setText(this.readout, span ? this.describe(span) : "\u00a0");
    this.canvas.setAttribute("aria-label", "Accelerator timeline" + (span ? ": " + this.describe(span) : ". Arrow keys walk through batches."));
    if (this.paused || this.still.matches) this.draw();
  }

  point(x, y) {
    const place = this.place();
    const edge = this.edge();
    const row = Math.floor((y - place.top) / place.row);
    const time = edge - this.seconds * 1e6 + ((x - place.left) / (place.width - place.left - 2)) * this.seconds * 1e6;
    const hits = this.spans.filter((span) => span[1] === row && span[0] !== SPAN_WINDOW && span[2] <= time && span[2] + span[3] >= time);
    this.choose(hits.find((span) => span[0] === SPAN_BATCH) || hits[0] || null);
  }

  /** The arrow keys: along a row, or to what ran beside it on the next. */
  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") this.choose(null);
    if (!steps) return;
    event.preventDefault();
    const edge = this.edge();
    const shown = this.spans.filter((span) => span[0] === SPAN_BATCH && span[2] < edge && span[2] + span[3] > edge - this.seconds * 1e6).sort((a, b) => a[2] - b[2]);
    if (!shown.length) return;
    const from = shown.includes(this.chosen) ? this.chosen : null;
    if (!from) {
      this.choose(shown[shown.length - 1]);
      return;
    }
    if (steps[0]) {
      const row = shown.filter((span) => span[1] === from[1]);
      this.choose(row[row.indexOf(from) + steps[0]] || from);
      return;
    }
    const rows = [...new Set(shown.map((span) => span[1]))].sort((a, b) => a - b);
    const next = rows[rows.indexOf(from[1]) + steps[1]];
    const near = shown.filter((span) => span[1] === next);
    this.choose(near.sort((a, b) => Math.abs(a[2] - from[2]) - Math.abs(b[2] - from[2]))[0] || from);
  }
}
