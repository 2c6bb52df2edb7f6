// Charts of a tuning study: what k trials buy, and each trial against one of its options.
const COSTS_OF_TUNING = { k: "tuning trials", grad_evals: "gradient evaluations of these trials" };

function drawExpected(block, clock) {
  const lines = block.tuning.curves.map(({ arm, look, curve }) => [look, arm, curve]);
  const name = `expected best valid/${block.tuning.metric}`;
  return drawLines(lines, clock, COSTS_OF_TUNING[clock], name, `${name} over ${COSTS_OF_TUNING[clock]} in ${block.title}`);
}

function drawTrials(block, option) {
  const { points, options, base, metric } = block.tuning, logarithmic = options[option];
  const known = points.filter(point => typeof point.values[option] === "number" && point.value !== null);
  if (!known.length) return note("No method has this option.");
  const place = point => logarithmic ? Math.log10(point.values[option]) : point.values[option];
  const ys = span([...known.map(point => point.value), base], 0.06);
  const text = `Valid ${metric} of ${known.length} trials against ${option} in ${block.title}`;
  const xName = logarithmic ? `log10 of ${option}` : option;
  const { root, x, y } = frame(text, span(known.map(place), 0.05), ys, xName, `valid/${metric}`);
  if (base !== null) root.append(svg("path", { class: "axis", "stroke-dasharray": "4 3", d: `M${SIZE.left} ${y(base)}H${SIZE.width - SIZE.right}` }));
  for (const point of known) {
    const words = `${point.arm}: valid/${metric} ${say(point.value)} at ${option} ${say(point.values[option])}`;
    root.append(mark(point.look, x(place(point)), y(point.value), words));
  }
  return root;
}

function startTuning(blocks) {
  const known = blocks.filter(block => block.tuning);
  const section = document.getElementById("tuning");
  section.hidden = !known.length;
  if (!known.length) return;
  for (const link of document.querySelectorAll("a[href='#tuning']")) link.hidden = false;
  const [chosen, clock, option] = ["block", "clock", "option"].map(name => document.getElementById(`tuning-${name}`));
  known.forEach((block, i) => chosen.append(new Option(block.title, i)));

  function choose() {
    const options = Object.keys(known[chosen.value].tuning.options);
    const first = options.includes("optimizer.rho") ? "optimizer.rho" : options[0];
    option.replaceChildren(...options.map(key => new Option(key, key, key === first, key === first)));
    draw();
  }

  function draw() {
    fitTo(document.getElementById("tuning-curves").clientWidth);
    const block = known[chosen.value];
    document.getElementById("tuning-key").replaceChildren(...block.tuning.curves.map(({ look, arm }) => keyOf(look, arm)));
    document.getElementById("tuning-curves").replaceChildren(drawExpected(block, clock.value));
    document.getElementById("tuning-points").replaceChildren(drawTrials(block, option.value));
  }

  chosen.addEventListener("input", choose);
  for (const choice of [clock, option]) choice.addEventListener("input", draw);
  choose();
  addEventListener("resize", draw);
}
