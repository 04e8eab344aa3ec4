// Charts, drawn by uPlot from the tables that they stand beside: what is drawn is what the table says.
//
//   <figure class="chart" data-kind="line|bars|scatter" data-x="…" data-y="…" data-scale="linear|log">
//     <div class="plot"></div> … <table> first column x, each further column a series; cells may give data-value
//
// A scatter dispatches "chart-pick" with {xMin, xMax, yMin, yMax} when part of it is clicked or dragged over.

const SERIES = ["--input", "--output", "--good", "--busy", "--bad"];
const POINT = 4;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function value(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text.replace("\u2212", "-").replaceAll(",", ""));
  return text === "" || Number.isNaN(number) ? null : number;
}

function read(figure) {
  const table = figure.querySelector("table");
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map(value));
  if (figure.dataset.kind !== "scatter") rows.sort((one, other) => one[0] - other[0]);
  return { names, columns: names.map((_, i) => rows.map((row) => row[i] ?? null)) };
}

function axes(figure) {
  const ink = colour("--quiet");
  const grid = { stroke: colour("--line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  const common = { stroke: ink, grid, ticks: grid, font, labelFont: font, labelSize: 18 };
  return [
    { ...common, label: figure.dataset.x, size: 32 },
    { ...common, label: figure.dataset.y, size: 52 },
  ];
}

function dots(u, seriesIndex) {
  const { ctx } = u;
  const size = POINT * devicePixelRatio;
  uPlot.orient(u, seriesIndex, (series, xs, ys, scaleX, scaleY, toX, toY, left, top, width, height) => {
    ctx.save();
    ctx.fillStyle = series.stroke();
    ctx.globalAlpha = Math.max(0.12, Math.min(0.7, 400 / xs.length));
    for (let i = 0; i < xs.length; i++) {
      if (xs[i] === null || ys[i] === null) continue;
      const x = toX(xs[i], scaleX, width, left);
      const y = toY(ys[i], scaleY, height, top);
      ctx.fillRect(x - size / 2, y - size / 2, size, size);
    }
    ctx.restore();
  });
  return null;
}

function series(figure, names) {
  const kind = figure.dataset.kind;
  return names.slice(1).map((label, i) => {
    const stroke = () => colour(SERIES[i % SERIES.length]);
    if (kind === "bars") {
      const width = names.length > 2 ? 0.8 / (names.length - 1) : 0.9;
      return { label, fill: stroke, stroke, width: 0, paths: uPlot.paths.bars({ size: [width, 60], gap: 1 }), points: { show: false } };
    }
    return { label, stroke, width: 2, spanGaps: true, points: { show: true, size: 6 } };
  });
}

function options(figure, names) {
  const plot = figure.querySelector(".plot");
  const size = { width: plot.clientWidth, height: plot.clientHeight - (names.length > 2 ? 30 : 0) };
  const shared = { ...size, axes: axes(figure), legend: { show: names.length > 2 && figure.dataset.kind !== "scatter" } };
  if (figure.dataset.kind === "scatter") {
    const stroke = () => colour("--input");
    return {
      ...shared,
      mode: 2,
      legend: { show: false },
      cursor: { drag: { x: true, y: true, setScale: false } },
      scales: { x: { time: false, range: [-1.05, 1.05] }, y: { range: [-1.05, 1.05] } },
      series: [{}, { label: names[1], stroke, paths: dots }],
      hooks: { setSelect: [(u) => picked(figure, u)] },
    };
  }
  const distr = figure.dataset.scale === "log" ? 3 : 1;
  return { ...shared, scales: { x: { time: false, distr } }, series: [{ label: names[0] }, ...series(figure, names)] };
}

function picked(figure, u) {
  const { left, top, width, height } = u.select;
  if (width < 4 || height < 4) return;
  const detail = {
    xMin: u.posToVal(left, "x"),
    xMax: u.posToVal(left + width, "x"),
    yMin: u.posToVal(top + height, "y"),
    yMax: u.posToVal(top, "y"),
  };
  figure.dispatchEvent(new CustomEvent("chart-pick", { detail, bubbles: true }));
}

const SPREAD = 0.05;

function click(figure, u) {
  let down = null;
  u.over.addEventListener("mousedown", (event) => (down = [event.clientX, event.clientY]));
  u.over.addEventListener("mouseup", (event) => {
    if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 4) return;
    const box = u.over.getBoundingClientRect();
    const x = u.posToVal(event.clientX - box.left, "x");
    const y = u.posToVal(event.clientY - box.top, "y");
    const detail = { xMin: x - SPREAD, xMax: x + SPREAD, yMin: y - SPREAD, yMax: y + SPREAD };
    figure.dispatchEvent(new CustomEvent("chart-pick", { detail, bubbles: true }));
  });
}

const drawn = new WeakMap();

export function draw(figure) {
  drawn.get(figure)?.destroy();
  const { names, columns } = read(figure);
  if (!columns[0].length || !figure.querySelector(".plot").clientWidth) return;
  const isScatter = figure.dataset.kind === "scatter";
  const data = isScatter ? [null, [columns[0], columns[1]]] : columns;
  const plot = figure.querySelector(".plot");
  const u = new uPlot(options(figure, names), data, plot);
  if (isScatter) click(figure, u);
  drawn.set(figure, u);
}

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) draw(target.closest("figure"));
});

function all() {
  for (const figure of document.querySelectorAll("figure.chart")) {
    if (!figure.dataset.watched) {
      figure.dataset.watched = "yes";
      resized.observe(figure.querySelector(".plot"));
    }
  }
}

document.addEventListener("theme", () => document.querySelectorAll("figure.chart").forEach(draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.querySelectorAll("figure.chart").forEach(draw),
);
document.addEventListener("swapped", all);
all();
