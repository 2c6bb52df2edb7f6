// Puts the page together once the data are unpacked.
async function unpack() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent.trim()), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// An optimizer's line and marker beside its name.
function keyOf(index, name) {
  const line = svg("path", { d: "M0 8H30", stroke: colour(index), "stroke-width": 2, "stroke-dasharray": DASHES[index % DASHES.length] });
  const sign = svg("path", { d: MARKERS[index % MARKERS.length], transform: "translate(15 8)", fill: colour(index) });
  return element("span", {}, svg("svg", { viewBox: "0 0 30 16", style: "width:30px", "aria-hidden": "true" }, line, sign), name);
}

function startCharts(blocks) {
  const chosen = document.getElementById("chart-block"), clock = document.getElementById("chart-clock");
  const several = new Set(blocks.map(block => block.experiment)).size > 1;
  blocks.forEach((block, i) => chosen.append(new Option((several ? `${block.experiment}: ` : "") + block.title, i)));
  const names = [...new Set(blocks.flatMap(block => block.arms.map(arm => arm.name)))];
  const hidden = new Set();

  function draw() {
    fitTo(document.getElementById("chart-curves").clientWidth);
    const block = blocks[chosen.value];
    const arms = block.arms.map(arm => [names.indexOf(arm.name), arm]).filter(([index]) => !hidden.has(index));
    document.getElementById("chart-curves").replaceChildren(drawCurves(block, arms, clock.value));
    document.getElementById("chart-cost").replaceChildren(drawCost(block, arms, clock.value));
    document.getElementById("chart-differences").replaceChildren(drawDifferences(block, arms));
  }

  function legend() {
    const boxes = blocks[chosen.value].arms.map(arm => {
      const index = names.indexOf(arm.name);
      const box = element("input", { type: "checkbox", checked: !hidden.has(index) });
      box.addEventListener("change", () => { box.checked ? hidden.delete(index) : hidden.add(index); draw(); });
      return element("label", {}, box, ...keyOf(index, arm.name).childNodes);
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
unpack().then(data => {
  startCharts(data.blocks);
  startSharpness(data.blocks);
  startTuning(data.blocks);
  startRuns(data);
  document.documentElement.dataset.ready = "yes";
});
