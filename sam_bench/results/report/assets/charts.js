// Charts: plain SVG, drawn again whenever a choice changes. A look is [colour, marker, dashes, hollow], of the method's name.
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

const colour = look => `var(--c${look[0]})`;

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

// How wide a text of a chart is, in pixels.
const ruler = document.createElement("canvas").getContext("2d");
function widthOf(text) {
  ruler.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

// Text that may not be wider than this: squeezed where it would be.
function label(width, attributes, text) {
  const squeezed = widthOf(text) > width ? { textLength: Math.round(width), lengthAdjust: "spacingAndGlyphs" } : {};
  return svg("text", { ...attributes, ...squeezed }, text);
}

// The horizontal axis with its name; returns what turns values into places.
function acrossAxis(root, size, xs, xName) {
  const { width, height, left, right, bottom } = size;
  const x = value => left + (value - xs[0]) / (xs[1] - xs[0]) * (width - left - right);
  for (const tick of ticks(...xs, (width - left - right) / 65)) {
    root.append(svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 4 }));
    root.append(svg("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, say(tick)));
  }
  const middle = Math.min((left + width - right) / 2, Math.max(width / 2, width - widthOf(xName) / 2));
  root.append(label(width, { x: middle, y: height - 8, "text-anchor": "middle" }, xName));
  return x;
}

// An empty chart with axes; x and y turn values into places.
function frame(name, xs, ys, xName, yName) {
  const { width, height, left, right, top, bottom } = SIZE;
  const y = value => height - bottom - (value - ys[0]) / (ys[1] - ys[0]) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": name });
  for (const tick of ticks(...ys, 5)) {
    root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    root.append(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, say(tick)));
  }
  const x = acrossAxis(root, SIZE, xs, xName);
  root.append(svg("path", { class: "axis", fill: "none", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
  const middle = (top + height - bottom) / 2;
  const place = { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` };
  root.append(label(height - top, place, yName));
  return { root, x, y };
}

// A marker as it stands in charts and in keys.
function sign(look, x, y, attributes = {}) {
  const fill = look[3] ? { fill: "var(--paper)", stroke: colour(look), "stroke-width": 1.5 } : { fill: colour(look) };
  return svg("path", { d: MARKERS[look[1]], transform: `translate(${x} ${y})`, ...fill, ...attributes });
}

// A mark that can be pointed at and reached with the keyboard, and then says its numbers below its charts.
function mark(look, x, y, text) {
  const node = sign(look, x, y, { class: "mark", tabindex: 0, role: "img", "aria-label": text });
  node.append(svg("title", {}, text));
  const tell = () => { node.closest("section").querySelector(".point").textContent = text; };
  node.addEventListener("focus", tell);
  node.addEventListener("pointerenter", tell);
  return node;
}

// Lines of means with bands of one standard deviation; lines are [look, name, {[xKey], mean, std}].
function drawLines(lines, xKey, xName, yName, title) {
  const drawn = lines.filter(([, , curve]) => curve.mean.length);
  const xs = span(drawn.flatMap(([, , curve]) => curve[xKey]), 0.02);
  const ends = drawn.flatMap(([, , curve]) => curve.mean.flatMap((m, i) => [m - curve.std[i], m + curve.std[i]]));
  const name = `${title}: ` + drawn.map(([, name, curve]) => `${name} ends at ${say(curve.mean.at(-1))}`).join(", ");
  const { root, x, y } = frame(name, xs, span(ends, 0.04), xName, yName);
  for (const [look, , curve] of drawn) {
    const place = (i, sign) => `${x(curve[xKey][i])} ${y(curve.mean[i] + sign * curve.std[i])}`;
    const order = curve.mean.map((_, i) => i);
    const band = [...order.map(i => place(i, 1)), ...order.reverse().map(i => place(i, -1))].join("L");
    root.append(svg("path", { d: `M${band}z`, fill: colour(look), opacity: 0.13 }));
  }
  for (const [look, name, curve] of drawn) {
    const line = curve.mean.map((value, i) => `${x(curve[xKey][i])} ${y(value)}`).join("L");
    const dash = DASHES[look[2]];
    root.append(svg("path", { d: `M${line}`, fill: "none", stroke: colour(look), "stroke-width": 2, "stroke-dasharray": dash }));
    const last = curve.mean.length - 1;
    const text = `${name}: ${yName} ${say(curve.mean[last])} ± ${say(curve.std[last], 2)} at ${xName} ${say(curve[xKey][last])}`;
    root.append(mark(look, x(curve[xKey][last]), y(curve.mean[last]), text));
  }
  return root;
}

function drawCurves(block, arms, clock) {
  const drawn = arms.filter(arm => arm.curve[clock].length);
  if (!drawn.length) return note("No learning curves are stored with these records.");
  const lines = drawn.map(arm => [arm.look, arm.name, arm.curve]);
  const name = `valid/${block.metric}`;
  return drawLines(lines, clock, AXES[clock], name, `Learning curves of ${name} over ${AXES[clock]} in ${block.title}`);
}

function drawCost(block, arms, clock) {
  const cost = clock === "epoch" ? "grad_evals" : clock;
  const drawn = arms.filter(arm => arm.mean !== null && arm.costs[cost] !== null);
  if (!drawn.length) return note("No finished run has this metric.");
  const xs = [0, Math.max(...drawn.map(arm => arm.costs[cost])) * 1.06 || 1];
  const ys = span(drawn.flatMap(arm => [arm.mean - arm.std, arm.mean + arm.std]), 0.05);
  const name = `Test ${block.metric} against ${AXES[cost]} in ${block.title}: ` +
    drawn.map(arm => `${arm.name} ${say(arm.mean)} at ${say(arm.costs[cost])}`).join(", ");
  const { root, x, y } = frame(name, xs, ys, AXES[cost], `test/${block.metric}`);
  const better = block.higher ? -1 : 1;
  const front = [];
  for (const arm of [...drawn].sort((a, b) => a.costs[cost] - b.costs[cost] || better * (a.mean - b.mean)))
    if (!front.length || better * arm.mean < better * front.at(-1).mean) front.push(arm);
  const line = front.map(arm => `${x(arm.costs[cost])} ${y(arm.mean)}`).join("L");
  root.append(svg("path", { class: "axis", d: `M${line}`, fill: "none" }));
  for (const arm of drawn) {
    const at = x(arm.costs[cost]), spread = arm.std ?? 0;
    root.append(svg("path", { d: `M${at} ${y(arm.mean - spread)}V${y(arm.mean + spread)}`, stroke: colour(arm.look) }));
    const text = `${arm.name}: test/${block.metric} ${say(arm.mean)} ± ${say(arm.std, 2)} (${arm.n}), ` +
      `${AXES[cost]} ${say(arm.costs[cost])}`;
    root.append(mark(arm.look, at, y(arm.mean), text));
  }
  return root;
}

function note(text) {
  const node = document.createElement("p");
  node.className = "note";
  node.textContent = text;
  return node;
}
