// The page of patches: the address tells what is shown, and every change is written into it.

import { get, make, problem } from "./api.js";
import { Detail, setFlag } from "./detail.js";
import { buildFilters, titleOf } from "./filters.js";
import { Grid, PAGE, loader } from "./grid.js";
import { buildWhatIf } from "./what_if.js";

const at = (id) => document.getElementById(id);
const start = Object.fromEntries(new URLSearchParams(location.search));
const state = { store: Number(start.store ?? 0), size: 2, open: start.open ?? null };
let query = {};
let site;
let sizes;
let generation = "";
let asked = 0;
let place = 0; // index of the window in the detail

const grid = new Grid(at("scroller"), at("grid"), {
  load: (from, count) => loader(state.store, query)(from, count),
  opened: (index, row) => row && openAt(index, row.row),
  gone: (error) => reloadOnce(error).catch(problem),
});
const detail = new Detail(at("detail"), {
  store: () => state.store,
  step: (by, row) => step(by, row).catch(problem),
  changed: (row) => grid.changed(row),
  closed: () => {
    state.open = null;
    write();
    // The browser gives the focus back to where the detail was opened, not where it went to.
    grid.move(place);
  },
});

/** The address of what is shown. */
function write() {
  const parts = new URLSearchParams({ store: state.store, ...query, size: sizes[state.size] });
  if (!query.reason && !query.change) parts.set("reason", "");
  if (state.open !== null) parts.set("open", state.open);
  const address = `?${parts}`;
  if (address !== location.search) history.replaceState(null, "", address);
}

function openAt(index, row) {
  if (index !== null) {
    place = index;
    grid.activate(index);
  }
  state.open = row;
  write();
  detail.open(row);
}

async function step(by, row) {
  if (row !== undefined) {
    openAt(null, row);
    return;
  }
  const index = place + by;
  if (index < 0 || index >= grid.total) return;
  const next = await grid.row(index);
  if (detail.shown) openAt(index, next.row);
}

async function search() {
  const mine = (asked += 1);
  write();
  try {
    // The grid begins at the window that is open.
    const find = state.open === null ? {} : { find: state.open };
    const answer = await get(`/api/stores/${state.store}/rows`, { ...query, start: 0, count: PAGE, ...find });
    if (mine !== asked) return;
    if (answer.generation !== generation) {
      await openNew();
      return;
    }
    problem(null);
    at("count").textContent = `${answer.total.toLocaleString("en")} of ${answer.of.toLocaleString("en")} windows`;
    at("nothing").hidden = answer.total > 0;
    grid.reset(answer.total, generation, state.store, answer.rows, answer.found ?? 0);
  } catch (error) {
    if (mine === asked) problem(error);
  }
}

// A store that was replaced is read anew, once for each time; other problems are told.
let reloaded = "";
async function reloadOnce(error) {
  if (error.status !== 410 || reloaded === generation) {
    problem(error);
    return;
  }
  reloaded = generation;
  await openNew();
}

async function openNew() {
  await openStore();
  problem({ message: "The store was replaced; this is the new one." });
}

async function openStore() {
  const told = await get(`/api/stores/${state.store}/columns`);
  generation = told.generation;
  const names = ["", ...[...told.columns, { name: "flag" }].flatMap(({ name }) => [name, `-${name}`])];
  at("sort").replaceChildren(...names.map((value) => make("option", { value },
    value ? `${titleOf(value.replace("-", ""))}${value.startsWith("-") ? " ↓" : " ↑"}` : "as tried")));
  at("sort").value = query.sort ?? "";
  const filters = () => buildFilters(at("filters"), told.columns, query, told.flags_file, search);
  at("clear").onclick = () => {
    for (const name of Object.keys(query)) if (!["sort", "what_if"].includes(name)) delete query[name];
    filters();
    search();
  };
  filters();
  const windows = site.stores[state.store].windows;
  const changed = (anew, rebuild) => {
    if (rebuild) filters();
    if (anew) search();
    else write();
  };
  await buildWhatIf(at("what-if"), at("answer"), state.store, told, query, windows, changed);
  await search();
}

async function flagActive(mark) {
  const row = grid.rowIfHere(grid.active);
  if (!row) return;
  const next = row.flag === mark ? "none" : mark;
  const told = await setFlag(state.store, { row: row.row, generation }, next, row.note);
  if (!told) return;
  problem(null);
  grid.changed(told);
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  let used = true;
  if (event.key === "?") {
    if (!at("help").open) at("help").showModal();
  } else if (at("help").open) used = false;
  else if (detail.shown) {
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (by) step(by).catch(problem);
    else if (event.key === "f" && detail.told) detail.flag("bad");
    else if (event.key === "i" && detail.told) detail.flag("interesting");
    else used = false;
  } else if (event.target.closest("#side, header")) used = false;
  else if (event.key === " ") grid.toggle();
  else if (event.key === "f") flagActive("bad");
  else if (event.key === "i") flagActive("interesting");
  else used = grid.key(event);
  if (used) event.preventDefault();
});

async function begin() {
  site = await get("/api/site");
  sizes = site.tile_sizes;
  at("models-link").hidden = !site.evaluations.length;
  if (!site.stores.length) {
    location.replace("/models");
    return;
  }
  if (!(state.store in site.stores)) state.store = 0;
  const { store, size, open, ...rest } = start;
  query = Object.fromEntries(Object.entries(rest).filter(([, value]) => value));
  // What is in the data, unless the address says otherwise.
  if (rest.reason === undefined && !query.change) query.reason = "taken";
  const usual = innerWidth < 2600 ? 128 : 192;
  state.size = Math.max(sizes.indexOf(Number(size ?? usual)), 0);
  grid.size = sizes[state.size];
  at("size").max = sizes.length - 1;
  at("size").value = state.size;
  at("store").replaceChildren(...site.stores.map((one, value) =>
    make("option", { value, title: one.path }, `${one.path.split("/").slice(-2).join("/")} (${one.samples.toLocaleString("en")} samples)`)));
  at("store").value = state.store;
  const entitle = () => { document.title = `${site.stores[state.store].path}: patches`; };
  entitle();
  at("store").onchange = () => {
    state.store = Number(at("store").value);
    entitle();
    query = { reason: "taken" };
    openStore().catch(problem);
  };
  at("sort").onchange = () => {
    if (at("sort").value) query.sort = at("sort").value;
    else delete query.sort;
    search();
  };
  at("size").oninput = () => {
    state.size = Number(at("size").value);
    grid.resize(sizes[state.size]);
    write();
  };
  at("help-button").onclick = () => at("help").showModal();
  const showSide = (shown) => {
    at("side").hidden = !shown;
    at("filters-button").setAttribute("aria-expanded", shown);
    grid.schedule();
  };
  at("filters-button").onclick = () => showSide(at("side").hidden);
  // On a narrow page the windows come first.
  showSide(innerWidth > 700);
  await openStore();
  if (open !== undefined) openAt(grid.active, Number(open));
}

begin().catch(problem);
