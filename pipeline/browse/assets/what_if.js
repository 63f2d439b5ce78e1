// What if: the thresholds as sliders, and what `sample` would take with them.

import { calmed, get, make, problem } from "./api.js";

const MOST_SEQUENCES = 200; // in the table, those that change most
const FIELDS = [
  { name: "motion_scale", title: "Motion scale (px)", low: 0.1, step: 0.1 },
  { name: "cut_threshold", title: "Cut threshold", low: 0.0005, step: 0.0005, without: "flow_cut" },
  { name: "flow_cut_threshold", title: "Cut threshold, by flow", low: 0.1, step: 0.1, of: "flow_cut" },
  { name: "repeat_threshold", title: "Repeats below (empty: taken)", low: 0.01, step: 0.01, high: 1 },
  { name: "max_brightness_change", title: "Largest brightness change (levels; empty: any)", low: 0, step: 0.1, of: "brightness_change" },
  { name: "max_misfit", title: "Largest misfit (levels; empty: any)", low: 0.1, step: 0.1, of: "misfit" },
  { name: "max_black_share", title: "Most black bars (0..1; empty: any)", low: 0, step: 0.01, high: 0.99, of: "black_share" },
  { name: "tries", title: "Tries", low: 1, step: 1 },
  { name: "max_taken", title: "Most taken from a triplet", low: 1, step: 1 },
  { name: "max_overlap", title: "Largest overlap (0..1)", low: 0, step: 0.05, high: 1 },
  { name: "max_per_sequence", title: "Most from a sequence (empty: all)", low: 1, step: 1 },
];

/** Sliders for `settings` as far as the `columns` they need are known; `query.what_if` holds what differs; `changed` shows changed windows. */
export function buildWhatIf(form, answer, store, { settings, columns }, query, windows, changed) {
  const known = Object.fromEntries(columns.map((column) => [column.name, column]));
  const given = Object.fromEntries(
    (query.what_if ?? "").split(",").filter(Boolean).map((part) => part.split(":")));
  const fields = FIELDS.filter(({ of, without }) => (!of || known[of].known) && !known[without]?.known);
  const inputs = fields.map((field) => {
    const start = settings[field.name];
    const high = field.high ?? {
      tries: settings.tries, max_taken: settings.tries, max_per_sequence: windows,
    }[field.name] ?? Math.max(...(start ? [4 * start] : []), known[field.of]?.high ?? 0, field.low);
    const value = given[field.name] ?? start ?? "";
    const number = make("input", { type: "number", min: field.low, max: high, step: "any", value });
    number.dataset.setting = field.name;
    const slider = make("input", { type: "range", min: field.low, max: high, step: field.step });
    slider.setAttribute("aria-label", field.title);
    slider.value = value === "" || value === "null" ? high : value;
    slider.addEventListener("input", () => {
      number.value = slider.value;
      ask();
    });
    number.addEventListener("input", () => {
      if (number.value !== "") slider.value = number.value;
      ask();
    });
    const pair = make("div", { className: "pair" }, slider, number);
    return { field, start, number, slider, label: make("div", {}, make("label", {}, field.title, pair)) };
  });
  // Each has a name of its own.
  inputs.forEach(({ field, number, label }) => {
    number.id = `what-if-${field.name}`;
    const text = make("label", { for: number.id }, field.title);
    label.replaceChildren(text, label.querySelector(".pair"));
  });
  const reset = make("button", { type: "button" }, "As built");
  reset.addEventListener("click", () => {
    inputs.forEach(({ start, number, slider }) => {
      number.value = start ?? "";
      slider.value = start ?? slider.max;
    });
    ask.now();
  });
  form.replaceChildren(...inputs.map(({ label }) => label), make("p", {}, reset));
  form.onsubmit = (event) => event.preventDefault();
  let version = 0;
  const now = async () => {
    const changes = inputs
      .filter(({ start, number }) => String(start ?? "") !== number.value)
      .map(({ field, number }) => `${field.name}:${number.value === "" ? "null" : number.value}`);
    const before = query.what_if ?? "";
    if (changes.length) query.what_if = changes.join(",");
    else delete query.what_if;
    const mine = (version += 1);
    try {
      const told = await get(`/api/stores/${store}/what-if`, { what_if: changes.join(",") });
      if (mine !== version) return;
      tell(answer, told, query, changed);
      if (before !== (query.what_if ?? "")) changed(Boolean(query.change));
    } catch (error) {
      if (mine === version) answer.replaceChildren(make("p", { className: "problem" }, error.message));
    }
  };
  const ask = Object.assign(calmed(now, 60), { now });
  return now();
}

function tell(place, told, query, changed) {
  const head = ["sequence", "before", "now", "gained", "lost"];
  const line = (row, tag = "td") => make(
    "tr", {},
    ...head.map((name, i) => make(tag, { className: i ? "number" : "" },
      i ? row[name].toLocaleString("en") : row.name ?? "all")),
  );
  const seen = (what) => {
    const button = make("button", { type: "button" }, `Show ${what}`);
    button.addEventListener("click", () => {
      for (const name of Object.keys(query)) if (!["sort", "what_if"].includes(name)) delete query[name];
      query.change = what;
      changed(true, true);
    });
    return button;
  };
  const copy = make("button", { type: "button" }, "Copy as YAML");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(told.yaml);
      copy.textContent = "Copied";
    } catch {
      problem({ message: "The browser does not let the page copy; select the settings below the table." });
    }
  });
  const total = make("p", {}, `${told.total.now.toLocaleString("en")} windows taken (${told.total.before.toLocaleString("en")} in the store): ${told.total.gained.toLocaleString("en")} gained, ${told.total.lost.toLocaleString("en")} lost`);
  total.id = "what-if-total";
  let rows = told.sequences.filter((row) => row.before || row.now);
  const more = rows.length - MOST_SEQUENCES;
  if (more > 0) {
    const size = (row) => row.gained + row.lost;
    rows = rows.sort((a, b) => size(b) - size(a)).slice(0, MOST_SEQUENCES);
  }
  place.replaceChildren(
    total,
    make("div", { className: "row" }, seen("gained"), seen("lost"), copy),
    make("table", {},
      make("thead", {}, make("tr", {}, ...head.map((name, i) => make("th", { scope: "col", className: i ? "number" : "" }, name)))),
      make("tbody", {}, ...rows.map((row) => line(row)))),
    ...(more > 0 ? [make("p", { className: "quiet" }, `and ${more.toLocaleString("en")} sequences that change no more than these`)] : []),
    make("pre", { tabIndex: 0, "aria-label": "Settings as YAML" }, told.yaml),
  );
}
