"use strict";
// Shows, searches and links what explorer.py worked out; it computes nothing.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

function bytes(code) {
  const text = atob(code);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}
const ints = (code) => new Int32Array(bytes(code).buffer);
const floats = (code) => new Float32Array(bytes(code).buffer);

const labels = ints(data.labels);
const count = labels.length;
const sheets = (data.sprites ? data.sprites.sheets : []).map((code) =>
  URL.createObjectURL(new Blob([bytes(code)], { type: "image/webp" })));
for (const view of data.views) {
  view.indices = ints(view.indices);
  view.distances = floats(view.distances);
  for (const plane of view.planes) plane.points = floats(plane.points);
}

const shapes = ["circle", "square", "triangle-up", "diamond", "cross", "x"];
const light = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
  "#56B4E9", "#000000", "#777777"];
const bright = ["#4fb0ef", "#ff8a3d", "#2fd0a0", "#CC79A7", "#E69F00",
  "#8fd3ff", "#ececec", "#a0a0a0"];
const symbols = Array.from(labels, (label) => shapes[label % shapes.length]);

let chosen = null; // the image whose nearest are shown
let wanted = null; // the classes that are searched for, or all

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
    // It begins with what is seen.
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

function traces(view) {
  const { points } = planeOf(view);
  const axis = (which, indices) =>
    indices.map((index) => points[2 * index + which]);
  const all = Array.from({ length: count }, (_, index) => index);
  const near = chosen === null ? [] : nearest(view, chosen);
  const ink = dark.matches ? "#ececec" : "#1c1c1c";
  const ring = (indices, size, width) => ({
    type: "scattergl", mode: "markers", hoverinfo: "skip",
    x: axis(0, indices), y: axis(1, indices),
    marker: { size, symbol: "circle-open", color: ink, line: { width } },
  });
  return [
    { type: "scattergl", mode: "markers", hoverinfo: "none",
      x: axis(0, all), y: axis(1, all),
      marker: { size: count > 2000 ? 5 : 7, symbol: symbols,
        color: colors() } },
    ring(near, 13, 1.5),
    ring(chosen === null ? [] : [chosen], 19, 3),
  ];
}

const nearest = (view, index) => Array.from(
  view.indices.subarray(index * view.nearest, (index + 1) * view.nearest));

function layout() {
  const paper = dark.matches ? "#161616" : "#ffffff";
  const axis = { visible: false };
  return {
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, dragmode: "pan",
    paper_bgcolor: paper, plot_bgcolor: paper, hovermode: "closest",
    xaxis: axis, yaxis: { ...axis, scaleanchor: "x" },
    uirevision: by("projection").value,
  };
}

function draw() {
  for (const view of data.views) {
    const plane = planeOf(view);
    view.place.querySelector(".quality").textContent =
      `${plane.name}: ${plane.quality}. ${plane.about}`;
    Plotly.react(view.plot, traces(view), layout(),
      { responsive: true, displaylogo: false, scrollZoom: true });
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
      `Image ${index}, ${nameOf(index)}, and its nearest by ${view.metric}:`;
  }
  draw();
}

function search() {
  const text = by("class").value.trim();
  const exact = data.classes.indexOf(text); // "t" is not "T"
  const found = exact >= 0 ? [exact] : [...data.classes.keys()].filter(
    (label) =>
      data.classes[label].toLowerCase().includes(text.toLowerCase()));
  wanted = text ? new Set(found) : null;
  const matches = [...labels.keys()].filter(
    (index) => !wanted || wanted.has(labels[index]));
  by("count").textContent = `${matches.length} of ${count} images`;
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
    `${count} of ${data.total} ${data.part} images of ${data.classes.length} ` +
    "classes. Point at one to see it; press it to see its nearest under the " +
    "metric that was trained.";
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
  by("projection").addEventListener("change", draw);
  by("class").addEventListener("input", search);
  dark.addEventListener("change", draw);
}
begin();
