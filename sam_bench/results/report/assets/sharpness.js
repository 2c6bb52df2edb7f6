// Charts of what was measured on finished runs: sharpness against the gap, landscapes, successive gradients.
const MEASURES = {
  largest_eigenvalue: "largest Hessian eigenvalue", trace: "Hessian trace", m_sharpness: "m-sharpness", ball_rise: "rise in the ball",
};
const TRACES = {
  norm_g: "norm of g", norm_g_s: "norm of g_s", norm_direction: "norm of the direction taken", cos_g: "cosine of g and the last g",
  cos_g_s: "cosine of g_s and the last g_s", cos_g_after_g_s: "cosine of g and the last g_s",
  cos_direction_g_s: "cosine of the direction and g_s",
};
const LEVELS = 12; // of a landscape
const LOW = [0, 34, 78], MIDDLE = [124, 123, 120], HIGH = [254, 232, 56]; // ends and middle of cividis

function drawGap(block, lookOf, measure) {
  const points = block.measured.points.filter(point => point[measure] !== null);
  if (!points.length) return note("Not measured: sam-bench sharpness adds it.");
  const label = `Gap between test and training loss against ${MEASURES[measure]} in ${block.title}, ${points.length} runs`;
  const xs = span(points.map(point => point[measure]), 0.06), ys = span(points.map(point => point.gap), 0.08);
  const { root, x, y } = frame(label, xs, ys, MEASURES[measure], "test minus train loss");
  for (const point of points) {
    const text = `${point.arm}, seed ${point.seed}: ${MEASURES[measure]} ${say(point[measure])}, gap ${say(point.gap, 3)}`;
    root.append(mark(lookOf(point.arm), x(point[measure]), y(point.gap), text));
  }
  return root;
}

function drawTraces(block, lookOf, trace) {
  const lines = block.measured.traces.map(({ arm, curves }) => [lookOf(arm), arm, curves[trace]]);
  if (!lines.some(([, , curve]) => curve.mean.length)) return note("Not measured: sam-bench sharpness --gradients adds it.");
  return drawLines(lines, "epoch", "epoch", TRACES[trace], `${TRACES[trace]} over epochs in ${block.title}`);
}

// From dark blue over grey to yellow: rising in lightness, told apart by colour-blind readers and in grey.
function shade(part) {
  const [from, to, way] = part < 0.5 ? [LOW, MIDDLE, part * 2] : [MIDDLE, HIGH, part * 2 - 1];
  return `rgb(${from.map((v, i) => Math.round(v + way * (to[i] - v))).join(" ")})`;
}

// One square per optimizer, all on one logarithmic scale, in bands so that contours show.
function drawPlanes(block) {
  const planes = block.measured.planes;
  if (!planes.length) return [note("Not measured: sam-bench sharpness --landscape adds it.")];
  const losses = planes.flatMap(plane => plane.losses.flat()).filter(loss => loss !== null);
  const low = Math.max(Math.min(...losses), 1e-6), high = Math.max(Math.max(...losses), low * 1.01);
  const part = loss => Math.max(0, Math.min(0.999, Math.log(loss / low) / Math.log(high / low)));
  const band = loss => Math.floor(part(Math.max(loss, low)) * LEVELS) / (LEVELS - 1);
  const drawn = planes.map(({ arm, seed, axis, losses }) => {
    const n = axis.length, here = losses[(n - 1) >> 1][(n - 1) >> 1];
    const label = `${arm}, seed ${seed}: training loss ${say(here, 3)} in the middle, ` +
      `up to ${say(Math.max(...losses.flat().filter(loss => loss !== null)), 3)} at the edge, ${say(axis.at(-1))} filter lengths away`;
    const root = svg("svg", { viewBox: `0 0 ${n} ${n}`, role: "img", "aria-label": label, "shape-rendering": "crispEdges" });
    losses.forEach((row, j) => row.forEach((loss, i) => {
      if (loss !== null) root.append(svg("rect", { x: i, y: n - 1 - j, width: 1.02, height: 1.02, fill: shade(band(loss)) }));
    }));
    root.append(svg("path", { d: `M${n / 2 - 0.7} ${n / 2}h1.4M${n / 2} ${n / 2 - 0.7}v1.4`, stroke: "white", "stroke-width": 0.2 }));
    return element("figure", {}, element("figcaption", {}, `${arm}, seed ${seed}`), root);
  });
  const key = svg("svg", { viewBox: `0 0 ${LEVELS} 1`, role: "img", "aria-label": `scale from ${say(low, 2)} to ${say(high, 2)}`, preserveAspectRatio: "none", style: "height:1rem" });
  for (let i = 0; i < LEVELS; i++) key.append(svg("rect", { x: i, width: 1.02, height: 1, fill: shade(i / (LEVELS - 1)) }));
  const scale = element("p", { className: "scale" }, say(low, 2), key, say(high, 2));
  return [...drawn, scale];
}

function startSharpness(blocks) {
  const known = blocks.filter(block => block.measured);
  const section = document.getElementById("sharpness");
  section.hidden = !known.length;
  if (!known.length) return;
  for (const link of document.querySelectorAll("a[href='#sharpness']")) link.hidden = false;
  const [chosen, measure, trace] = ["block", "measure", "trace"].map(name => document.getElementById(`sharpness-${name}`));
  known.forEach((block, i) => chosen.append(new Option(block.title, i)));
  for (const [key, text] of Object.entries(MEASURES)) measure.append(new Option(text, key));
  for (const [key, text] of Object.entries(TRACES)) trace.append(new Option(text, key));

  function draw() {
    fitTo(document.getElementById("sharpness-gap").clientWidth);
    const block = known[chosen.value], lookOf = name => block.arms.find(arm => arm.name === name).look;
    const key = block.arms.map(arm => keyOf(arm.look, arm.name));
    document.getElementById("sharpness-key").replaceChildren(...key);
    document.getElementById("sharpness-gap").replaceChildren(drawGap(block, lookOf, measure.value));
    document.getElementById("sharpness-traces").replaceChildren(drawTraces(block, lookOf, trace.value));
    document.getElementById("sharpness-planes").replaceChildren(...drawPlanes(block));
  }

  for (const choice of [chosen, measure, trace]) choice.addEventListener("input", draw);
  draw();
  addEventListener("resize", draw);
}
