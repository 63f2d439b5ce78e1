// One window, large: its pictures, its numbers, why it is (not) in the data, its neighbours.

import { get, make, post, problem, show } from "./api.js";
import { titleOf } from "./filters.js";

const VIEWS = [
  ["first", "First frame"], ["middle", "Middle frame"], ["third", "Third frame"],
  ["difference", "Difference of first and third"], ["flow", "Flow from first to third (hue: direction)"],
  ["frame", "The window in its middle frame"],
];
const NUMBERS = [
  "row", "sample", "split", "first_frame", "attempt", "top", "left", "motion", "draw", "lot", "cut_distance",
  "flow_cut", "repeat", "brightness_change", "misfit", "black_share",
];

export class Detail {
  constructor(dialog, { store, step, changed, closed }) {
    Object.assign(this, { dialog, store, step, changed });
    this.version = 0;
    dialog.addEventListener("close", () => {
      this.told = null;
      closed();
    });
  }

  get shown() {
    return this.dialog.open;
  }

  async open(row) {
    const version = (this.version += 1);
    try {
      const told = await get(`/api/stores/${this.store()}/rows/${row}`);
      if (version !== this.version) return;
      this.told = told;
      this.paint();
      if (!this.dialog.open) this.dialog.showModal();
    } catch (error) {
      problem(error);
    }
  }

  paint() {
    const { told } = this;
    const title = make("h2", {}, `${told.sequence}, frames ${told.first_frame} to ${told.first_frame + 2}: ${told.reason}`);
    title.id = "detail-title";
    const close = make("button", { type: "button" }, "Close");
    close.addEventListener("click", () => this.dialog.close());
    const steps = [["Previous", -1, "k"], ["Next", 1, "j"]].map(([words, by, key]) => {
      const button = make("button", { type: "button" }, `${words} `, make("kbd", {}, key));
      button.addEventListener("click", () => this.step(by));
      return button;
    });
    this.dialog.replaceChildren(
      title,
      make("p", { className: "because" }, `Why: ${told.because}.`),
      make("div", { className: "row" }, ...steps, ...this.flags(), close),
      make("div", { className: "pictures" }, ...VIEWS.map((view) => this.figure(...view))),
      make("h3", {}, "Windows of this triplet"),
      this.neighbours(),
      make("h3", {}, "Numbers"),
      make("table", {}, make("tbody", {}, ...NUMBERS.map((name) => make("tr", {},
        make("th", { scope: "row" }, titleOf(name)),
        make("td", { className: "number" }, typeof told[name] === "string" ? told[name] : show(told[name], 6)))))),
    );
  }

  figure(view, words) {
    const { told } = this;
    const caption = make("figcaption", {}, words);
    const image = make("img", { alt: words });
    image.addEventListener("error", async () => {
      const response = await fetch(image.src);
      if (response.ok) return;
      const { error } = await response.json();
      image.remove();
      caption.textContent = `${words}: ${error}`;
    }, { once: true });
    image.src = `/views/${this.store()}/${told.generation}/${told.row}/${view}`;
    return make("figure", { className: view === "frame" ? "wide" : "" }, image, caption);
  }

  flags() {
    const { told } = this;
    const buttons = [["bad", "f"], ["interesting", "i"]].map(([mark, key]) => {
      const button = make("button", { type: "button", "aria-pressed": told.flag === mark }, `${mark} `, make("kbd", {}, key));
      button.addEventListener("click", () => this.flag(mark));
      return button;
    });
    const note = make("input", { type: "text", value: told.note, disabled: told.flag === "none", maxLength: 2000 });
    note.addEventListener("change", () => this.save(told.flag, note.value));
    return [...buttons, make("label", {}, "Note ", note)];
  }

  flag(mark) {
    return this.save(this.told.flag === mark ? "none" : mark, this.told.note);
  }

  async save(mark, note) {
    const row = await setFlag(this.store(), this.told, mark, note);
    if (!row) return;
    this.changed(row);
    if (this.told?.row !== row.row) return;
    Object.assign(this.told, row);
    const focus = document.activeElement?.textContent;
    this.paint();
    // Painting anew must not lose the place of the keyboard.
    [...this.dialog.querySelectorAll("button")].find((one) => one.textContent === focus)?.focus();
  }

  neighbours() {
    const { told } = this;
    const link = (row, words, current = false) => {
      const button = make("button", { type: "button", "aria-current": current }, words);
      button.addEventListener("click", () => this.step(0, row));
      return button;
    };
    return make("div", { className: "neighbours" },
      told.previous_triplet === null ? null : link(told.previous_triplet, "← triplet before"),
      ...told.triplet.map((one, i) => link(one.row, `${i}: ${one.reason}`, one.row === told.row)),
      told.next_triplet === null ? null : link(told.next_triplet, "triplet after →"));
  }
}

/** Set a flag; the row as it is now, or null if that failed. */
export async function setFlag(store, row, mark, note) {
  const content = { generation: row.generation, row: row.row, mark: mark === "none" ? null : mark };
  try {
    return await post(`/api/stores/${store}/flags`, { ...content, note: mark === "none" ? "" : note });
  } catch (error) {
    problem(error);
    return null;
  }
}
