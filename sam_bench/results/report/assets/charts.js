// Charts: plain SVG, drawn again whenever a choice changes. Colour, dashes and marker tell an optimizer apart.
const COLOURS = 8;
const DASHES = ["", "6 3", "2 2", "8 3 2 3", "10 3", "4 2 1 2", "12 2 2 2"];
const MARKERS = [
  "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0", "M-5-5h10v10h-10z", "M0-6L6 0L0 6L-6 0z", "M0-6L6 5H-6z", "M0 6L6-5H-6z",
  "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", "M-6-3L-3-6L0-3L3-6L6-3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0z",
];
const AXES = { epoch: "epoch", grad_evals: "gradient evaluations", train_seconds: "training seconds" };
const SIZE = { width: 560, height: 340, left: 76, right: 12, top: 12, bottom: 46 };

// Drawn as wide as there is room, so that the letters keep their size on a phone.
function fitTo(width) {
  SIZE.width = Math.max(320, Math.min(620, width));
}

function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const colour = index => `var(--c${index % COLOURS})`;

function say(value, digits = 4) {
  if (value === null || value === undefined) return "n/a";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(digits)));
}

// Round numbers between two ends, about so many.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(factor => factor * power >= rough) * power;
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function span(values, pad) {
  const known = values.filter(value => value !== null && isFinite(value));
  if (!known.length) return [0, 1];
  const low = Math.min(...known), high = Math.max(...known);
  const room = (high - low || Math.abs(high) || 1) * pad;
  return [low - room, high + room];
}

// An empty chart with axes; x and y turn values into places.
function frame(label, xs, ys, xName, yName) {
  const { width, height, left, right, top, bottom } = SIZE;
  const x = value => left + (value - xs[0]) / (xs[1] - xs[0]) * (width - left - right);
  const y = value => height - bottom - (value - ys[0]) / (ys[1] - ys[0]) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  for (const tick of ticks(...ys, 5)) {
    root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    root.append(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, say(tick)));
  }
  for (const tick of ticks(...xs, width / 110)) {
    root.append(svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 4 }));
    root.append(svg("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, say(tick)));
  }
  root.append(svg("path", { class: "axis", fill: "none", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
  root.append(svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xName));
  const middle = (top + height - bottom) / 2;
  root.append(svg("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, yName));
  return { root, x, y };
}

// A mark that can be pointed at and reached with the keyboard, and then says its numbers below its charts.
function mark(index, x, y, text) {
  const node = svg("path", {
    class: "mark", d: MARKERS[index % MARKERS.length], transform: `translate(${x} ${y})`, fill: colour(index),
    tabindex: 0, role: "img", "aria-label": text,
  }, svg("title", {}, text));
  const tell = () => { node.closest("section").querySelector(".point").textContent = text; };
  node.addEventListener("focus", tell);
  node.addEventListener("pointerenter", tell);
  return node;
}

// Lines of means with bands of one standard deviation; lines are [index, name, {[xKey], mean, std}].
function drawLines(lines, xKey, xName, yName, title) {
  const drawn = lines.filter(([, , curve]) => curve.mean.length);
  const xs = span(drawn.flatMap(([, , curve]) => curve[xKey]), 0.02);
  const ends = drawn.flatMap(([, , curve]) => curve.mean.flatMap((m, i) => [m - curve.std[i], m + curve.std[i]]));
  const label = `${title}: ` + drawn.map(([, name, curve]) => `${name} ends at ${say(curve.mean.at(-1))}`).join(", ");
  const { root, x, y } = frame(label, xs, span(ends, 0.04), xName, yName);
  for (const [index, , curve] of drawn) {
    const place = (i, sign) => `${x(curve[xKey][i])} ${y(curve.mean[i] + sign * curve.std[i])}`;
    const order = curve.mean.map((_, i) => i);
    const band = [...order.map(i => place(i, 1)), ...order.reverse().map(i => place(i, -1))].join("L");
    root.append(svg("path", { d: `M${band}z`, fill: colour(index), opacity: 0.13 }));
  }
  for (const [index, name, curve] of drawn) {
    const line = curve.mean.map((value, i) => `${x(curve[xKey][i])} ${y(value)}`).join("L");
    const dash = DASHES[index % DASHES.length];
    root.append(svg("path", { d: `M${line}`, fill: "none", stroke: colour(index), "stroke-width": 2, "stroke-dasharray": dash }));
    const last = curve.mean.length - 1;
    const text = `${name}: ${yName} ${say(curve.mean[last])} ± ${say(curve.std[last], 2)} at ${xName} ${say(curve[xKey][last])}`;
    root.append(mark(index, x(curve[xKey][last]), y(curve.mean[last]), text));
  }
  return root;
}

function drawCurves(block, arms, clock) {
  const drawn = arms.filter(([, arm]) => arm.curve[clock].length);
  if (!drawn.length) return note("No learning curves are stored with these records.");
  const lines = drawn.map(([index, arm]) => [index, arm.name, arm.curve]);
  const name = `valid/${block.metric}`;
  return drawLines(lines, clock, AXES[clock], name, `Learning curves of ${name} over ${AXES[clock]} in ${block.title}`);
}

function drawCost(block, arms, clock) {
  const cost = clock === "epoch" ? "grad_evals" : clock;
  const drawn = arms.filter(([, arm]) => arm.mean !== null && arm.costs[cost] !== null);
  if (!drawn.length) return note("No finished run has this metric.");
  const xs = [0, Math.max(...drawn.map(([, arm]) => arm.costs[cost])) * 1.06 || 1];
  const ys = span(drawn.flatMap(([, arm]) => [arm.mean - arm.std, arm.mean + arm.std]), 0.05);
  const label = `Test ${block.metric} against ${AXES[cost]} in ${block.title}: ` +
    drawn.map(([, arm]) => `${arm.name} ${say(arm.mean)} at ${say(arm.costs[cost])}`).join(", ");
  const { root, x, y } = frame(label, xs, ys, AXES[cost], `test/${block.metric}`);
  const sign = block.higher ? -1 : 1;
  const front = [];
  for (const [, arm] of [...drawn].sort((a, b) => a[1].costs[cost] - b[1].costs[cost] || sign * (a[1].mean - b[1].mean)))
    if (!front.length || sign * arm.mean < sign * front.at(-1).mean) front.push(arm);
  const line = front.map(arm => `${x(arm.costs[cost])} ${y(arm.mean)}`).join("L");
  root.append(svg("path", { class: "axis", d: `M${line}`, fill: "none" }));
  for (const [index, arm] of drawn) {
    const at = x(arm.costs[cost]), spread = arm.std ?? 0;
    root.append(svg("path", { d: `M${at} ${y(arm.mean - spread)}V${y(arm.mean + spread)}`, stroke: colour(index) }));
    const text = `${arm.name}: test/${block.metric} ${say(arm.mean)} ± ${say(arm.std, 2)} (${arm.n}), ` +
      `${AXES[cost]} ${say(arm.costs[cost])}`;
    root.append(mark(index, at, y(arm.mean), text));
  }
  return root;
}

function drawDifferences(block, arms) {
  const drawn = arms.filter(([, arm]) => arm.versus);
  if (!drawn.length) return note("There is no base arm (erm) to compare with.");
  const ends = drawn.flatMap(([, { versus }]) => [versus.mean, versus.low ?? versus.mean, versus.high ?? versus.mean]);
  const xs = span([0, ...ends], 0.05);
  const label = `Difference of test ${block.metric} to the base arm in ${block.title}: ` +
    drawn.map(([, { name, versus }]) => `${name} ${say(versus.mean, 3)}`).join(", ");
  const name = `test/${block.metric} minus erm (${block.higher ? "right" : "left"} is better)`;
  const { root, x, y } = frame(label, xs, [drawn.length - 0.3, -0.7], name, "");
  root.querySelectorAll(".grid, text[text-anchor=end]").forEach(node => node.remove());
  root.append(svg("path", { class: "axis", "stroke-dasharray": "3 3", d: `M${x(0)} ${SIZE.top}V${SIZE.height - SIZE.bottom}` }));
  for (const [row, [index, { name, versus }]] of drawn.entries()) {
    if (versus.low !== null)
      root.append(svg("path", { d: `M${x(versus.low)} ${y(row)}H${x(versus.high)}`, stroke: colour(index), "stroke-width": 2 }));
    const verdict = versus.significant ? `p = ${say(versus.p, 2)}` : versus.p === null ? "too few seeds" : `p = ${say(versus.p, 2)}, not significant`;
    const interval = versus.low === null ? "" : ` [${say(versus.low, 3)}, ${say(versus.high, 3)}]`;
    const text = `${name} minus ${versus.base}: ${say(versus.mean, 3)}${interval}, ${versus.n} pairs, ${verdict}`;
    root.append(svg("text", { class: "name", x: SIZE.left + 6, y: y(row) - 10 }, name), mark(index, x(versus.mean), y(row), text));
  }
  return root;
}

function note(text) {
  const node = document.createElement("p");
  node.className = "note";
  node.textContent = text;
  return node;
}
