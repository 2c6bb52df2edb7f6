// Charts with a row for each optimizer, its name in the left margin, where no line crosses it.
const BUDGET_COSTS = { epochs: "epochs", grad_evals: "gradient evaluations", seconds: "training seconds" };
const LANE = 9; // pixels below and above a row's middle, for the valid metric and for published values

// One row for each name: a variant stands in brackets on a second line.
function rowFrame(text, names, xs, xName, room = 0) {
  const lines = names.map(name => name.split(/ (?=\()/));
  const most = Math.max(...lines.flat().map(widthOf)) + 12;
  const left = Math.min(most, SIZE.width * 0.42), tall = lines.some(line => line.length > 1) ? 42 : 36;
  const height = SIZE.top + names.length * tall + SIZE.bottom;
  const size = { ...SIZE, left, height, right: SIZE.right + room };
  const root = svg("svg", { viewBox: `0 0 ${size.width} ${height}`, role: "group", "aria-label": text });
  const y = row => SIZE.top + (row + 0.5) * tall;
  for (const [row, parts] of lines.entries()) {
    root.append(svg("line", { class: "grid", x1: left, x2: size.width - size.right, y1: y(row), y2: y(row) }));
    parts.forEach((part, i) => root.append(label(left - 8, {
      class: "row", x: left - 8, y: y(row) + 4 + (i - (parts.length - 1) / 2) * 15, "text-anchor": "end",
    }, part)));
  }
  const x = acrossAxis(root, size, xs, xName), bottom = height - SIZE.bottom;
  root.append(svg("path", { class: "axis", fill: "none", d: `M${left} ${SIZE.top}V${bottom}H${size.width - size.right}` }));
  const upright = value => root.append(svg("path", {
    class: "axis level", "stroke-dasharray": "3 3", d: `M${x(value)} ${SIZE.top}V${bottom}`,
  }));
  const bar = (low, high, at, look, width = 2) => root.append(svg("path", {
    d: `M${x(low)} ${at}H${x(high)}`, stroke: look ? colour(look) : "var(--ink)", "stroke-width": width,
  }));
  return { root, x, y, upright, bar, edge: size.width - size.right };
}

function drawDifferences(block, arms) {
  const drawn = arms.filter(arm => arm.versus);
  if (!drawn.length) return note("There is no base arm (erm) to compare with.");
  const ends = drawn.flatMap(({ versus }) => [versus.mean, versus.low ?? versus.mean, versus.high ?? versus.mean]);
  const text = `Difference of test ${block.metric} to the base arm in ${block.title}: ` +
    drawn.map(({ name, versus }) => `${name} ${say(versus.mean, 3)}`).join(", ");
  const xName = `test/${block.metric} minus erm (${block.higher ? "right" : "left"} is better)`;
  const { root, x, y, upright, bar } = rowFrame(text, drawn.map(arm => arm.name), span([0, ...ends], 0.06), xName);
  upright(0);
  for (const [row, { look, name, versus }] of drawn.entries()) {
    if (versus.low !== null) bar(versus.low, versus.high, y(row), look);
    const verdict = versus.significant ? `p = ${say(versus.p, 2)}` : versus.p === null ? "too few seeds" : `p = ${say(versus.p, 2)}, not significant`;
    const interval = versus.low === null ? "" : ` [${say(versus.low, 3)}, ${say(versus.high, 3)}]`;
    const words = `${name} minus ${versus.base}: ${say(versus.mean, 3)}${interval}, ${versus.n} pairs, ${verdict}`;
    root.append(mark(look, x(versus.mean), y(row), words));
  }
  return root;
}

// Test metric on the row, valid metric below it, published values above it.
function drawMetrics(block, arms) {
  const drawn = arms.filter(arm => arm.mean !== null);
  if (!drawn.length) return note("No finished run has this metric.");
  const around = (mean, spread) => mean === null ? [] : [mean - (spread ?? 0), mean + (spread ?? 0)];
  const ends = drawn.flatMap(arm => [
    ...around(arm.mean, arm.std), ...around(arm.valid.mean, arm.valid.std),
    ...arm.published.flatMap(({ value, spread }) => around(value, spread)),
  ]);
  const text = `Test and valid ${block.metric} in ${block.title}: ` +
    drawn.map(arm => `${arm.name} ${say(arm.mean)} and ${say(arm.valid.mean)}`).join(", ");
  const xName = `${block.metric} (${block.higher ? "right" : "left"} is better)`;
  const { root, x, y, bar } = rowFrame(text, drawn.map(arm => arm.name), span(ends, 0.05), xName);
  const tick = (at, value, look, words) => {
    const node = svg("path", {
      class: "mark", d: `M${x(value)} ${at - 4}v8`, stroke: look ? colour(look) : "var(--ink)", "stroke-width": 2,
      tabindex: 0, role: "img", "aria-label": words,
    }, svg("title", {}, words));
    const tell = () => { node.closest("section").querySelector(".point").textContent = words; };
    for (const event of ["focus", "pointerenter"]) node.addEventListener(event, tell);
    root.append(node);
  };
  for (const [row, { look, name, mean, std, n, valid, published }] of drawn.entries()) {
    bar(...around(mean, std), y(row), look);
    root.append(mark(look, x(mean), y(row), `${name}: test/${block.metric} ${say(mean)} ± ${say(std, 2)} (${n})`));
    if (valid.mean !== null) {
      bar(...around(valid.mean, valid.std), y(row) + LANE, look, 1);
      tick(y(row) + LANE, valid.mean, look, `${name}: valid/${block.metric} ${say(valid.mean)} ± ${say(valid.std, 2)} (${n})`);
    }
    for (const { value, spread, source } of published) {
      bar(...around(value, spread), y(row) - LANE, null, 1);
      tick(y(row) - LANE, value, null, `published for ${name}: ${say(value)}${spread === null ? "" : ` ± ${say(spread, 2)}`}, ${source}`);
    }
  }
  return root;
}

// What each optimizer spends until the target: the median of the runs that reach it, bar = their range.
function drawTarget(block, hidden, clock) {
  const cost = clock === "epoch" ? "grad_evals" : clock;
  const drawn = block.target ? block.target.arms.filter(arm => !hidden.has(arm.name)) : [];
  if (!drawn.length) return note("There is no target: no run of erm with a learning curve.");
  const known = drawn.flatMap(arm => arm[cost].high ?? []);
  const text = `${AXES[cost]} until valid/${block.metric} of ${say(block.target.goal)} in ${block.title}: ` +
    drawn.map(arm => `${arm.name} ${arm[cost].n ? say(arm[cost].median) : "never"}`).join(", ");
  const xs = [0, Math.max(...known, 0) * 1.06 || 1], room = 62;
  const { root, x, y, bar, edge } = rowFrame(text, drawn.map(arm => arm.name), xs, `${AXES[cost]} to the target`, room);
  for (const [row, { look, name, of, [cost]: spent }] of drawn.entries()) {
    root.append(svg("text", { x: edge + 8, y: y(row) + 4 }, `${spent.n} of ${of}`));
    if (!spent.n) continue;
    bar(spent.low, spent.high, y(row), look);
    const words = `${name}: ${spent.n} of ${of} runs reach valid/${block.metric} ${say(block.target.goal)}, ` +
      `with ${AXES[cost]} ${say(spent.median)} (median)`;
    root.append(mark(look, x(spent.median), y(row), words));
  }
  return root;
}

function drawBudget(block, part, xs, names) {
  const text = `Test ${block.metric} under ${part.name} in ${block.title}: ` +
    part.arms.map(arm => `${arm.name} ${say(arm.mean)}`).join(", ");
  const xName = `test/${block.metric} (${block.higher ? "right" : "left"} is better)`;
  const { root, x, y, upright, bar } = rowFrame(text, names, xs, xName);
  if (part.base !== null) upright(part.base);
  for (const { look, name, mean, std, n, spent } of part.arms) {
    const at = y(names.indexOf(name));
    bar(mean - (std ?? 0), mean + (std ?? 0), at, look);
    const words = `${name}, ${part.name}: test/${block.metric} ${say(mean)} ± ${say(std, 2)} (${n}), ` +
      `${BUDGET_COSTS[part.budget]} spent ${say(spent)}`;
    root.append(mark(look, x(mean), at, words));
  }
  return root;
}

function startBudgets(blocks) {
  const section = document.getElementById("budgets"), chosen = document.getElementById("budget-block");
  section.hidden = !blocks.length;
  if (!blocks.length) return;
  for (const link of document.querySelectorAll("a[href='#budgets']")) link.hidden = false;
  blocks.forEach((block, i) => chosen.append(new Option(block.title, i)));

  function draw() {
    const block = blocks[chosen.value], panels = document.getElementById("budget-panels");
    const figures = block.parts.map(part => element("figure", {}, element("figcaption", {}, part.name), element("div")));
    panels.replaceChildren(...figures);
    fitTo(figures[0].clientWidth);
    const arms = block.parts.flatMap(part => part.arms), names = [...new Set(arms.map(arm => arm.name))];
    const xs = span(arms.flatMap(arm => [arm.mean - (arm.std ?? 0), arm.mean + (arm.std ?? 0)]), 0.06);
    block.parts.forEach((part, i) => figures[i].lastChild.append(drawBudget(block, part, xs, names)));
  }

  chosen.addEventListener("input", draw);
  draw();
  addEventListener("resize", draw);
}
