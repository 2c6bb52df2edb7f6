// Puts the page together once the data are unpacked.
async function unpack() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent.trim()), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// An optimizer's line and marker beside its name.
function keyOf(look, name) {
  const line = svg("path", { d: "M0 8H30", stroke: colour(look), "stroke-width": 2, "stroke-dasharray": DASHES[look[2]] });
  const picture = svg("svg", { viewBox: "0 0 30 16", style: "width:30px", "aria-hidden": "true" }, line, sign(look, 15, 8));
  return element("span", {}, picture, name);
}

function startCharts(blocks) {
  const chosen = document.getElementById("chart-block"), clock = document.getElementById("chart-clock");
  const several = new Set(blocks.map(block => block.experiment)).size > 1;
  blocks.forEach((block, i) => chosen.append(new Option((several ? `${block.experiment}: ` : "") + block.title, i)));
  const hidden = new Set();

  function draw() {
    fitTo(document.getElementById("chart-curves").clientWidth);
    const block = blocks[chosen.value];
    const arms = block.arms.filter(arm => !hidden.has(arm.name));
    const charts = {
      curves: drawCurves(block, arms, clock.value), cost: drawCost(block, arms, clock.value), metrics: drawMetrics(block, arms),
      differences: drawDifferences(block, arms), target: drawTarget(block, hidden, clock.value),
    };
    for (const [name, chart] of Object.entries(charts)) document.getElementById(`chart-${name}`).replaceChildren(chart);
    document.getElementById("chart-goal").textContent = block.target ? `${block.metric} of ${say(block.target.goal)}` : "metric";
  }

  function legend() {
    const boxes = blocks[chosen.value].arms.map(({ look, name }) => {
      const box = element("input", { type: "checkbox", checked: !hidden.has(name) });
      box.addEventListener("change", () => { box.checked ? hidden.delete(name) : hidden.add(name); draw(); });
      return element("label", {}, box, ...keyOf(look, name).childNodes);
    });
    const field = document.getElementById("chart-arms");
    field.replaceChildren(field.querySelector("legend"), ...boxes);
  }

  chosen.addEventListener("input", () => { legend(); draw(); });
  clock.addEventListener("input", draw);
  if (!blocks.length) return;
  legend();
  draw();
  addEventListener("resize", draw);
}

function startTheme() {
  const button = document.getElementById("theme");
  const themes = [["automatic", ""], ["light", "light"], ["dark", "dark"]];
  let now = 0;
  button.addEventListener("click", () => {
    now = (now + 1) % themes.length;
    document.documentElement.style.colorScheme = themes[now][1];
    button.textContent = `Theme: ${themes[now][0]}`;
  });
}

document.documentElement.classList.add("scripts");
startTheme();
startResultTables();
startScrollHints();
unpack().then(data => {
  startCharts(data.blocks);
  startSharpness(data.blocks);
  startTuning(data.blocks);
  startBudgets(data.budgets);
  startRuns(data);
  document.documentElement.dataset.ready = "yes";
});
