// The list of runs, and everything about one of them.
const COLUMNS = [
  ["run", run => run.id], ["status", run => run.status], ["dataset", run => run.labels.dataset],
  ["model", run => run.labels.model], ["base", run => run.labels.base], ["optimizer", run => run.labels.optimizer],
  ["seed", run => run.labels.seed], ["test metric", run => run.value ?? "n/a"],
  ["best epoch", run => run.facts.best_epoch ?? "n/a"], ["grad_evals", run => run.facts.grad_evals ?? "n/a"],
  ["train_seconds", run => run.facts.train_seconds ?? "n/a"],
];
const PAGE = 25;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  Object.assign(node, attributes);
  node.append(...children);
  return node;
}

function startRuns(data) {
  const table = document.getElementById("run-table");
  const [input, status] = ["filter-runs", "filter-status"].map(id => document.getElementById(id));
  const more = document.getElementById("more-runs");
  const texts = new Map(data.runs.map(run => [run, COLUMNS.map(([, value]) => value(run)).join(" ")]));
  let runs = data.runs, limit = PAGE;

  function show() {
    const chosen = runs.filter(run => (!status.value || run.status === status.value) && matches(texts.get(run), input.value));
    table.tBodies[0].replaceChildren(...chosen.slice(0, limit).map(run => row(run, data)));
    document.getElementById("filter-runs-count").textContent = `${chosen.length} of ${data.runs.length} runs`;
    more.hidden = chosen.length <= limit;
  }

  table.tHead.append(element("tr", {}, ...COLUMNS.map(([name]) => element("th", { scope: "col" }, name))));
  makeSortable(table, (column, sign) => {
    const value = COLUMNS[column][1];
    runs = [...runs].sort((a, b) => compare(value(a), value(b), sign));
    show();
  });
  for (const control of [input, status]) control.addEventListener("input", () => { limit = PAGE; show(); });
  more.addEventListener("click", () => { limit += PAGE; show(); });
  document.getElementById("details-close").addEventListener("click", () => document.getElementById("details").close());
  show();
}

function row(run, data) {
  const open = element("button", { type: "button", className: "link" }, run.id);
  open.addEventListener("click", () => showDetails(run, data));
  const cells = COLUMNS.slice(1).map(([, value]) => element("td", {}, typeof value(run) === "number" ? say(value(run), 5) : String(value(run))));
  return element("tr", {}, element("th", { scope: "row" }, open), ...cells);
}

function showDetails(run, data) {
  document.getElementById("details-title").textContent = run.id;
  const command = element("pre", { tabIndex: 0 }, element("code", {}, run.command));
  const parts = [element("h3", {}, "Make it again"), command];
  if (run.error) parts.push(...facts("Error", run.error));
  parts.push(...facts("Metrics", run.metrics), ...facts("Run", { status: run.status, experiments: run.experiments, ...run.labels, ...run.facts }));
  parts.push(...facts("Configuration", data.configs[run.config]), ...facts("Data", run.data));
  parts.push(...facts("Provenance", data.provenances[run.provenance]));
  document.getElementById("details-body").replaceChildren(...parts);
  const dialog = document.getElementById("details");
  dialog.showModal();
  dialog.scrollTop = 0;
}

function facts(title, values) {
  const rows = Object.entries(values).map(([key, value]) => {
    const text = value === null || value === undefined ? "n/a" : Array.isArray(value) ? value.join(", ") : String(value);
    const shown = text.includes("\n") ? element("pre", { tabIndex: 0 }, text) : text;
    return element("tr", {}, element("th", { scope: "row" }, key), element("td", {}, shown));
  });
  return rows.length ? [element("h3", {}, title), element("table", {}, element("tbody", {}, ...rows))] : [];
}
