"use strict";
// Shows, searches and links the results of explorer.py; computes nothing itself.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

function bytes(code) {
  const text = atob(code);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
  return array;
}
const ints = (code) => new Int32Array(bytes(code).buffer);
const shorts = (code) => new Uint16Array(bytes(code).buffer);
const floats = (code) => new Float32Array(bytes(code).buffer);

const labels = ints(data.labels);
const count = labels.length;
const sheets = (data.sprites ? data.sprites.sheets : []).map((code) =>
  URL.createObjectURL(new Blob([bytes(code)], { type: "image/webp" })));
for (const view of data.views) {
  view.indices = shorts(view.indices);
  view.distances = floats(view.distances);
  for (const plane of view.planes) plane.points = floats(plane.points);
  if (view.moves)
    view.moves.points = new Int16Array(bytes(view.moves.points).buffer);
}
// The steps of all views; the selected checkpoint follows the last step.
const moving = data.views.filter((view) => view.moves);
const steps = [...new Set(moving.flatMap((view) => view.moves.steps))]
  .sort((a, b) => a - b);

const shapes = ["circle", "square", "triangle-up", "diamond", "cross", "x"];
const light = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
  "#56B4E9", "#000000", "#777777"];
const bright = ["#4fb0ef", "#ff8a3d", "#2fd0a0", "#CC79A7", "#E69F00",
  "#8fd3ff", "#ececec", "#a0a0a0"];
const symbols = Array.from(labels, (label) => shapes[label % shapes.length]);

let chosen = null; // the image whose neighbors are shown
let wanted = null; // the classes that are searched for; null for all
let at = steps.length; // the index of the step that is shown
let playing = null;

function element(tag, parent, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    made.setAttribute(name, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

const nameOf = (index) => data.classes[labels[index]];

function image(index, parent) {
  if (!data.sprites) return;
  const { columns, of_sheet: of, side } = data.sprites;
  const place = index % of;
  const made = element("span", parent, { class: "image", "aria-hidden": true });
  const rows = Math.ceil(Math.min(of, count - (index - place)) / columns);
  const at = (number, total) => total > 1 ? (100 * number) / (total - 1) : 0;
  const [row, column] = [Math.floor(place / columns), place % columns];
  made.style.backgroundImage = `url(${sheets[Math.floor(index / of)]})`;
  made.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  made.style.backgroundPosition = `${at(column, columns)}% ${at(row, rows)}%`;
  if (side < 40) made.style.imageRendering = "pixelated";
}

function button(index, parent, kind, caption) {
  const says = { right: ", the same class", wrong: ", another class" };
  const made = element("button", parent, {
    class: `one ${kind}`, type: "button",
    // The spoken label begins with the visible text.
    "aria-label": `${nameOf(index)} ${caption}` +
      (kind ? `, image ${index}` : "") + (says[kind] || ""),
  });
  image(index, made);
  element("b", made, {}, nameOf(index));
  made.append(" ");
  element("span", made, {}, caption);
  made.addEventListener("click", () => choose(index));
}

function colors() {
  const palette = dark.matches ? bright : light;
  const gray = dark.matches ? "rgba(160,160,160,.18)" : "rgba(90,90,90,.15)";
  return Array.from(labels, (label) =>
    !wanted || wanted.has(label) ? palette[label % palette.length] : gray);
}

const planeOf = (view) =>
  view.planes.find((plane) => plane.name === by("projection").value)
  || view.planes[0];

const everyone = Array.from({ length: count }, (_, index) => index);

// The places of images at the step that is shown: all x, then all y.
function places(view, indices) {
  const { moves } = view;
  const moved = moves && at < steps.length && planeOf(view).name === moves.plane;
  // The latest step up to this one that the run kept, or its first.
  const frame = moved
    ? Math.max(0, moves.steps.findLastIndex((step) => step <= steps[at])) : 0;
  const [points, unit] = moved
    ? [moves.points, moves.unit] : [planeOf(view).points, 1];
  return [0, 1].map((which) => Float32Array.from(indices, (index) =>
    unit * points[2 * (frame * count + index) + which]));
}

// The images of each trace: all, the nearest neighbors, and the chosen one.
const groups = (view) => [everyone,
  chosen === null ? [] : nearest(view, chosen),
  chosen === null ? [] : [chosen]];

function traces(view) {
  const ink = dark.matches ? "#ececec" : "#1c1c1c";
  const ring = (size, width) =>
    ({ size, symbol: "circle-open", color: ink, line: { width } });
  const markers = [
    { size: count > 2000 ? 5 : 7, symbol: symbols, color: colors() },
    ring(13, 1.5), ring(19, 3),
  ];
  return groups(view).map((indices, which) => {
    const [x, y] = places(view, indices);
    return { type: "scattergl", mode: "markers", x, y,
      hoverinfo: which ? "skip" : "none", marker: markers[which] };
  });
}

function show(step) {
  at = step;
  const { selected } = moving[0].moves;
  const words = at < steps.length ? `step ${steps[at]}`
    : selected === null ? "last step" : `step ${selected}, selected`;
  by("step").value = at;
  by("step").setAttribute("aria-valuetext", words);
  by("at").textContent = words;
  for (const view of moving) {
    const points = groups(view).map((indices) => places(view, indices));
    Plotly.restyle(view.plot, { x: points.map(([x]) => x),
      y: points.map(([, y]) => y) }, [0, 1, 2]);
  }
}

function project(name) {
  by("projection").value = name;
  draw();
}

function pause() {
  clearInterval(playing);
  playing = null;
  by("play").textContent = "Play";
}

function play() {
  if (playing !== null) return pause();
  by("play").textContent = "Pause";
  if (at >= steps.length) at = -1;
  // Only some planes have the same axes at each step.
  project(moving[0].moves.plane);
  playing = setInterval(() => {
    show(at + 1);
    if (at >= steps.length) pause();
  }, 250);
}

const nearest = (view, index) => Array.from(
  view.indices.subarray(index * view.nearest, (index + 1) * view.nearest));

// The same range at each step, so a point may lie outside at an early one.
function range(points, which) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = which; i < points.length; i += 2) {
    low = Math.min(low, points[i]);
    high = Math.max(high, points[i]);
  }
  const air = 0.06 * (high - low) || 1;
  return [low - air, high + air];
}

function layout(view) {
  const paper = dark.matches ? "#161616" : "#ffffff";
  const { points } = planeOf(view);
  const axis = (which) => ({ visible: false, range: range(points, which) });
  return {
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, dragmode: "pan",
    paper_bgcolor: paper, plot_bgcolor: paper, hovermode: "closest",
    xaxis: axis(0), yaxis: { ...axis(1), scaleanchor: "x" },
    uirevision: by("projection").value,
  };
}

function draw() {
  for (const view of data.views) {
    const plane = planeOf(view);
    view.place.querySelector(".quality").textContent =
      `${plane.name}: ${plane.quality}. ${plane.about}`;
    Plotly.react(view.plot, traces(view), layout(view),
      { responsive: true, displaylogo: false, scrollZoom: true,
        modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
      });
  }
}

function choose(index) {
  chosen = index;
  for (const view of data.views) {
    const place = view.place.querySelector(".nearest");
    place.replaceChildren();
    button(index, place, "query", "chosen");
    nearest(view, index).forEach((other, rank) => button(
      other, place, labels[other] === labels[index] ? "right" : "wrong",
      view.distances[index * view.nearest + rank].toPrecision(3)));
    view.place.querySelector(".told").textContent =
      `Image ${index}, ${nameOf(index)}, and its nearest neighbors by ` +
      `${view.metric}:`;
  }
  draw();
}

function search() {
  const text = by("class").value.trim();
  const exact = data.classes.indexOf(text); // "t" is not "T"
  const classes = exact >= 0 ? [exact] : [...data.classes.keys()].filter(
    (label) =>
      data.classes[label].toLowerCase().includes(text.toLowerCase()));
  wanted = text ? new Set(classes) : null;
  const matches = [...labels.keys()].filter(
    (index) => !wanted || wanted.has(labels[index]));
  by("count").textContent = `${matches.length.toLocaleString("en")} of ` +
    `${count.toLocaleString("en")} images`;
  by("matches").replaceChildren();
  matches.slice(0, 60).forEach((index) =>
    button(index, by("matches"), "", `image ${index}`));
  draw();
}

function hover(event, index) {
  const place = by("hover");
  place.replaceChildren();
  image(index, place);
  element("b", place, {}, nameOf(index));
  element("div", place, {}, `image ${index}`);
  place.hidden = false;
  const { clientX: x = 0, clientY: y = 0 } = event || {};
  place.style.left = `${Math.min(x + 14, innerWidth - 120)}px`;
  place.style.top = `${Math.min(y + 14, innerHeight - 140)}px`;
}

function begin() {
  const planes = new Set(data.views.flatMap((v) => v.planes.map((p) => p.name)));
  for (const name of planes)
    element("option", by("projection"), { value: name }, name);
  if (planes.has("tsne") && !planes.has("as is"))
    by("projection").value = "tsne";
  for (const name of data.classes)
    element("option", by("classes"), { value: name });
  by("about").textContent =
    `${count.toLocaleString("en")} of ${data.total.toLocaleString("en")} ` +
    `${data.part} images of ${data.classes.length} ` +
    "classes. Point at an image to see it; press it to see its nearest " +
    "neighbors under the trained metric.";
  by("views").classList.toggle("two", data.views.length > 1);
  for (const view of data.views) {
    view.place = element("section", by("views"), { class: "view" });
    element("h2", view.place, {}, view.title);
    element("p", view.place, { class: "quality faint" });
    view.plot = element("div", view.place, { class: "plot", role: "group",
      "aria-label": `Map of ${view.title}; its images are buttons below` });
    element("p", view.place, { class: "told", role: "status" });
    element("div", view.place, { class: "nearest" });
  }
  search();
  for (const view of data.views) {
    const first = (event) =>
      event.points.find((point) => point.curveNumber === 0);
    view.plot.on("plotly_hover", (event) =>
      first(event) && hover(event.event, first(event).pointNumber));
    view.plot.on("plotly_unhover", () => { by("hover").hidden = true; });
    view.plot.on("plotly_click", (event) =>
      first(event) && choose(first(event).pointNumber));
  }
  by("steps").hidden = !steps.length;
  by("step").max = steps.length;
  if (steps.length) {
    show(steps.length);
    by("step").addEventListener("input", () => {
      if (playing !== null) pause();
      const { plane } = moving[0].moves;
      if (by("projection").value !== plane) project(plane);
      show(Number(by("step").value));
    });
    by("play").addEventListener("click", play);
  }
  by("projection").addEventListener("change", draw);
  by("class").addEventListener("input", search);
  dark.addEventListener("change", draw);
}
begin();
