// Filters: a list of choices for each column of names, a brush for each column of numbers.

import { calmed, make, show } from "./api.js";

const TITLES = {
  sequence: "Sequence", reason: "Reason", split: "Split", flag: "Flag", change: "Change (what if)",
  motion: "Motion (px)", cut_distance: "Cut distance", flow_cut: "Cut by flow", repeat: "Repeat",
  brightness_change: "Brightness change (levels)", misfit: "Misfit (levels)", black_share: "Black bars (0..1)",
  draw: "Draw (0..1)", lot: "Lot (0..1)", first_frame: "First frame", attempt: "Attempt",
  top: "Top (px)", left: "Left (px)", sample: "Sample", row: "Row",
};
// Numbers that are shown at once; the others are folded away.
const FIRST = ["motion", "cut_distance"];
const MOST_CHOICES = 100; // shown at once; a field narrows them down
// In the address commas stand between names, so those within a name are written otherwise.
const written = (value) => value.replace(/[%,]/g, (sign) => encodeURIComponent(sign));
export const titleOf = (name) => TITLES[name] ?? name;

/** Fill `place` with filters that read and write `query`; `changed` is called after each change. */
export function buildFilters(place, columns, query, flagsFile, changed) {
  const named = [
    ...columns.filter((column) => column.values),
    { name: "flag", values: ["none", "bad", "interesting"] },
    { name: "change", values: ["same", "gained", "lost"] },
  ];
  const numbered = columns.filter((column) => !column.values);
  const others = numbered.filter(({ name }) => !FIRST.includes(name));
  const more = make(
    "details", { open: others.some(({ name }) => query[name]) },
    make("summary", {}, "More numbers"),
    ...others.map((column) => numbers(column, query, changed)),
  );
  place.replaceChildren(
    ...named.map((column) => choices(column, query, changed, column.name === "flag" ? flagsFile : "")),
    ...numbered.filter(({ name }) => FIRST.includes(name)).map((column) => numbers(column, query, changed)),
    more,
  );
}

function choices(column, query, changed, file) {
  const chosen = new Set((query[column.name] ?? "").split(",").filter(Boolean));
  const list = make("div", { className: "choices" });
  const there = column.values
    .map((value, position) => [value, column.counts?.[position]])
    .filter(([, count]) => count !== 0);
  const choice = ([value, count]) => {
    const box = make("input", { type: "checkbox", checked: chosen.has(written(value)) });
    box.dataset.filter = `${column.name}:${value}`;
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(written(value));
      else chosen.delete(written(value));
      set(query, column.name, [...chosen].join(","));
      changed();
    });
    const words = [make("span", {}, value), make("span", {}, count?.toLocaleString("en") ?? "")];
    return make("label", { className: "choice" }, box, ...words);
  };
  // Those that are chosen are always seen.
  const fill = (part) => {
    const first = there.filter(([value]) => chosen.has(written(value)));
    const found = there.filter(([value]) => !chosen.has(written(value)) && value.toLowerCase().includes(part));
    const more = found.length - MOST_CHOICES;
    list.replaceChildren(
      ...[...first, ...found.slice(0, MOST_CHOICES)].map(choice),
      ...(more > 0 ? [make("p", { className: "quiet" }, `and ${more.toLocaleString("en")} more`)] : []),
    );
  };
  const title = titleOf(column.name);
  const many = there.length > MOST_CHOICES;
  const narrow = many ? make("input", { type: "search", placeholder: "Part of a name", "aria-label": `${title}: part of a name` }) : null;
  narrow?.addEventListener("input", () => fill(narrow.value.toLowerCase()));
  if (many) fill("");
  else list.replaceChildren(...there.map(choice));
  const kept = file ? make("p", { className: "quiet path" }, `kept in ${file}`) : null;
  return make("fieldset", {}, make("legend", {}, title), ...[narrow, list, kept].filter(Boolean));
}

function set(query, name, value) {
  if (value) query[name] = value;
  else delete query[name];
}

function numbers(column, query, changed) {
  const { name, low, high, counts } = column;
  if (!column.known) {
    const words = make("p", { className: "quiet" }, "not measured in this store");
    return make("fieldset", {}, make("legend", {}, titleOf(name)), words);
  }
  const [from, to] = (query[name] ?? "~").split("~");
  const least = make("input", { type: "number", step: "any", value: from, placeholder: show(low) });
  const most = make("input", { type: "number", step: "any", value: to, placeholder: show(high) });
  least.dataset.filter = `${name}:least`;
  most.dataset.filter = `${name}:most`;
  const picture = histogram(counts);
  const paint = () => {
    const ends = [least.value === "" ? -Infinity : +least.value, most.value === "" ? Infinity : +most.value];
    const width = (high - low) / counts.length;
    const all = ends[0] === -Infinity && ends[1] === Infinity;
    [...picture.children].forEach((bar, i) => {
      const start = low + i * width;
      bar.classList.toggle("chosen", !all && start + width >= ends[0] && start <= ends[1]);
    });
  };
  const commit = () => {
    const given = least.value !== "" || most.value !== "";
    set(query, name, given ? `${least.value}~${most.value}` : "");
    paint();
    changed();
  };
  const typed = calmed(commit, 250);
  for (const input of [least, most]) input.addEventListener("input", typed);
  brush(picture, (start, end, done) => {
    const value = (share) => {
      const exact = low + share * (high - low);
      return column.whole ? String(Math.round(exact)) : String(Number(exact.toPrecision(4)));
    };
    // A brush that reaches an end has no limit there, which rounding could put before the last.
    least.value = start === null || start === 0 ? "" : value(start);
    most.value = start === null || end === 1 ? "" : value(end);
    paint();
    if (done) commit();
  });
  paint();
  const ends = make(
    "div", { className: "ends" },
    make("label", {}, "at least", least), make("label", {}, "at most", most),
  );
  return make("fieldset", {}, make("legend", {}, titleOf(name)), picture, ends);
}

const SVG = "http://www.w3.org/2000/svg";

function histogram(counts) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "histogram");
  picture.setAttribute("viewBox", `0 0 ${counts.length} 40`);
  picture.setAttribute("preserveAspectRatio", "none");
  // The numbers below say the same to who does not see it.
  picture.setAttribute("aria-hidden", "true");
  const most = Math.max(...counts, 1);
  counts.forEach((count, i) => {
    const bar = document.createElementNS(SVG, "rect");
    // The root, so that few are seen beside many.
    const height = Math.sqrt(count / most) * 40;
    const sizes = { x: i, y: 40 - height, width: 0.9, height };
    for (const [name, value] of Object.entries(sizes)) bar.setAttribute(name, value);
    picture.append(bar);
  });
  return picture;
}

/** Call `moved(from, to, done)` with shares (0..1) of the width; a click without a move clears. */
function brush(picture, moved) {
  let start = null;
  const share = (event) => {
    const box = picture.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  picture.addEventListener("pointerdown", (event) => {
    start = share(event);
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const end = share(event);
    moved(Math.min(start, end), Math.max(start, end), false);
  });
  picture.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const end = share(event);
    const click = Math.abs(end - start) < 0.01;
    moved(click ? null : Math.min(start, end), Math.max(start, end), true);
    start = null;
  });
}
