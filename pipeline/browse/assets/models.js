// The page of models: triplets on which two of them differ, with a handle between two pictures.

import { get, make, problem, refusal, show } from "./api.js";

const at = (id) => document.getElementById(id);
const SIDES = [["a-prediction", "A"], ["b-prediction", "B"], ["a-truth", "truth"], ["a-error", "error of A"], ["b-error", "error of B"]];
const MOST_TRIPLETS = 1000; // in the list
const start = Object.fromEntries(new URLSearchParams(location.search));
const state = {
  a: start.a ?? "0", b: start.b ?? "1", metric: start.metric ?? "standard_psnr",
  left: start.left ?? "a-prediction", right: start.right ?? "b-prediction", zoom: start.zoom ?? "1",
  only: start.only ?? "1", sequence: start.sequence ?? "", first_frame: start.first_frame ?? "",
};
let site;
let triplets = [];
let blinking = 0;

function write() {
  const address = `?${new URLSearchParams(state)}`;
  if (address !== location.search) history.replaceState(null, "", address);
}

function handle() {
  const share = Number(at("handle").value);
  at("left-picture").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  at("line").style.left = `${share}%`;
}

function picture(side) {
  const [which, what] = side.split("-");
  const place = new URLSearchParams({ sequence: state.sequence, first_frame: state.first_frame });
  return `/evaluations/${state[which]}/${what}?${place}`;
}

function look() {
  write();
  const place = `${state.sequence} ${state.first_frame}`;
  for (const button of at("triplets").querySelectorAll("button")) {
    button.setAttribute("aria-current", button.dataset.place === place);
  }
  at("swipe").hidden = !state.sequence;
  if (!state.sequence) return;
  for (const side of ["left", "right"]) {
    const image = at(`${side}-picture`);
    const address = picture(state[side]);
    image.alt = `${SIDES.find(([name]) => name === state[side])[1]}, ${state.sequence} ${state.first_frame}`;
    if (image.getAttribute("src") !== address) image.src = address;
  }
  const mapped = [state.left, state.right].some((side) => side.endsWith("error"));
  at("caption").textContent = `${state.sequence}, frame ${Number(state.first_frame) + 1}${mapped ? `; errors from black, none, to the brightest, ${site.brightest_error} of 255 levels or more` : ""}`;
  zoom();
  handle();
}

function zoom() {
  for (const side of ["left", "right"]) {
    const image = at(`${side}-picture`);
    // In pixels of the screen, of which a browser that is zoomed in has more.
    const width = (image.naturalWidth * Number(state.zoom)) / devicePixelRatio;
    if (width) image.style.width = `${width}px`;
  }
}

async function compare() {
  const { a, b, metric } = state;
  // Of two that cannot be compared nothing is shown.
  triplets = [];
  try {
    ({ triplets } = await get("/api/evaluations/compare", { a, b, metric }));
    problem(null);
  } catch (error) {
    problem(error);
  }
  list();
  means();
  look();
}

function list() {
  const pictured = triplets.filter((one) => one.pictures);
  at("count").textContent = `${triplets.length.toLocaleString("en")} triplets, ${pictured.length.toLocaleString("en")} with pictures`;
  at("only-label").hidden = !pictured.length;
  at("only").checked = state.only === "1";
  const listed = pictured.length && state.only === "1" ? pictured : triplets;
  at("more").hidden = listed.length <= MOST_TRIPLETS;
  at("more").textContent = `and ${(listed.length - MOST_TRIPLETS).toLocaleString("en")} that differ less`;
  at("triplets").replaceChildren(...listed.slice(0, MOST_TRIPLETS).map((one) => {
    const words = `${one.sequence} ${one.first_frame}: ${show(one.a)} and ${show(one.b)}, ${one.difference > 0 ? "+" : ""}${show(one.difference, 3)}`;
    const button = make("button", { type: "button", disabled: !one.pictures }, words);
    button.dataset.place = `${one.sequence} ${one.first_frame}`;
    button.addEventListener("click", () => {
      Object.assign(state, { sequence: one.sequence, first_frame: String(one.first_frame) });
      look();
    });
    return make("li", {}, button);
  }));
  if (!pictured.some((one) => one.sequence === state.sequence && String(one.first_frame) === state.first_frame)) {
    const [first] = pictured;
    Object.assign(state, { sequence: first?.sequence ?? "", first_frame: first ? String(first.first_frame) : "" });
  }
  at("caption").textContent = triplets.length && !pictured.length ? "No pictures were kept of these triplets: the setting `pictures` of the evaluation names those to keep." : "";
}

/** To the next or the previous triplet of the list that has pictures. */
function step(by) {
  const buttons = [...at("triplets").querySelectorAll("button:enabled")];
  const here = buttons.findIndex((one) => one.getAttribute("aria-current") === "true");
  const next = buttons[here + by];
  if (!next) return;
  next.click();
  next.focus();
}

/** Errors in place of predictions, and back. */
function errors() {
  const shown = state.left.endsWith("error") || state.right.endsWith("error");
  for (const side of ["left", "right"]) {
    state[side] = state[side].replace(shown ? "error" : "prediction", shown ? "prediction" : "error");
    at(side).value = state[side];
  }
  look();
}

const KEYS = {
  " ": blink, e: errors, j: () => step(1), k: () => step(-1),
  // The arrows scroll pictures that are larger than the page.
  h: () => slide(-5), l: () => slide(5),
};

function slide(by) {
  at("handle").value = Number(at("handle").value) + by;
  handle();
}

/** The scores that any of these evaluations has. */
const metricsOf = (evaluations) => [...new Set(evaluations.flatMap(({ metrics }) => metrics))];

function means() {
  const chosen = [site.evaluations[state.a], site.evaluations[state.b]];
  const cell = (evaluation, metric) => make("td", { className: "number" }, show(evaluation.means[metric]));
  at("means").replaceChildren(make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "score"),
      ...chosen.map((one) => make("th", { scope: "col", className: "number" }, one.model)))),
    make("tbody", {}, ...metricsOf(chosen).map((metric) => make("tr", {},
      make("th", { scope: "row" }, metric.replaceAll("_", " ")), ...chosen.map((one) => cell(one, metric)))))),
  make("details", {}, make("summary", {}, "What they measure"), ...Object.values(
    Object.assign({}, ...chosen.map((one) => one.protocols))).map((words) => make("p", { className: "quiet" }, words))));
}

function blink() {
  if (blinking) {
    clearInterval(blinking);
    blinking = 0;
    handle();
  } else {
    let shown = false;
    blinking = setInterval(() => {
      shown = !shown;
      at("left-picture").style.clipPath = shown ? "none" : "inset(0 100% 0 0)";
    }, 400);
  }
  at("blink").setAttribute("aria-pressed", Boolean(blinking));
}

function swipe() {
  let held = false;
  const move = (event) => {
    if (!held) return;
    const box = at("swipe").getBoundingClientRect();
    at("handle").value = Math.round(((event.clientX - box.left) / box.width) * 100);
    handle();
  };
  at("swipe").addEventListener("pointerdown", (event) => {
    held = true;
    at("swipe").setPointerCapture(event.pointerId);
    move(event);
  });
  at("swipe").addEventListener("pointermove", move);
  at("swipe").addEventListener("pointerup", () => { held = false; });
}

async function begin() {
  site = await get("/api/site");
  at("patches-link").hidden = !site.stores.length;
  if (!site.evaluations.length) throw new Error("No evaluation directory is open: give some to browse.");
  for (const which of ["a", "b"]) {
    if (!(state[which] in site.evaluations)) state[which] = "0";
    at(which).replaceChildren(...site.evaluations.map((one, value) => make("option", { value }, `${one.model} (${one.path.split("/").slice(-2).join("/")})`)));
  }
  at("metric").replaceChildren(...metricsOf(site.evaluations).map((value) => make("option", { value }, value.replaceAll("_", " "))));
  for (const side of ["left", "right"]) at(side).replaceChildren(...SIDES.map(([value, words]) => make("option", { value }, words)));
  for (const name of ["a", "b", "metric", "left", "right", "zoom"]) {
    at(name).value = state[name];
    at(name).addEventListener("change", () => {
      state[name] = at(name).value;
      if (["a", "b", "metric"].includes(name)) compare().catch(problem);
      else look();
    });
  }
  for (const side of ["left", "right"]) {
    const image = at(`${side}-picture`);
    image.addEventListener("load", zoom);
    image.addEventListener("error", async () => problem(await refusal(image.src)));
  }
  addEventListener("resize", zoom);
  at("only").addEventListener("change", () => {
    state.only = at("only").checked ? "1" : "0";
    list();
    look();
  });
  at("help-button").addEventListener("click", () => at("help").showModal());
  at("handle").addEventListener("input", handle);
  at("blink").addEventListener("click", blink);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
    if (event.target.closest("select, input")) return;
    // Space presses a button, but not that of the triplet that is shown.
    if (event.key === " " && event.target.closest("button:not([aria-current=true])")) return;
    if (event.key === "?") at("help").showModal();
    else if (event.key in KEYS) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  swipe();
  await compare();
}

begin().catch(problem);
