// One window, large: its pictures, its numbers, why it is (not) in the data, its neighbours.

import { get, make, post, problem, refusal, show } from "./api.js";
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
    // These stay, so that a screen reader tells what changes in them.
    this.title = make("h2", { id: "detail-title" });
    this.because = make("p", { className: "because" });
    this.rest = make("div");
    dialog.replaceChildren(
      make("div", { "aria-live": "polite" }, this.title, this.because),
      make("p", { className: "problem", role: "alert", hidden: true }),
      this.rest,
    );
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
      problem(null);
      this.paint();
      if (!this.dialog.open) this.dialog.showModal();
    } catch (error) {
      problem(error);
    }
  }

  paint() {
    const { told } = this;
    const focused = this.dialog.contains(document.activeElement) ? document.activeElement : null;
    this.title.textContent = `${told.sequence}, frames ${told.first_frame} to ${told.first_frame + 2}: ${told.reason}`;
    this.because.textContent = `Why: ${told.because}.`;
    const close = make("button", { type: "button" }, "Close");
    close.addEventListener("click", () => this.dialog.close());
    const steps = [["Previous", -1, "k"], ["Next", 1, "j"]].map(([words, by, key]) => {
      const button = make("button", { type: "button" }, `${words} `, make("kbd", {}, key));
      button.addEventListener("click", () => this.step(by));
      return button;
    });
    this.rest.replaceChildren(
      make("div", { className: "row" }, ...steps, ...this.flags(), close),
      make("div", { className: "pictures" }, ...VIEWS.map((view) => this.figure(...view))),
      make("h3", {}, "Windows of this triplet"),
      this.neighbours(),
      make("h3", {}, "Numbers"),
      make("table", {}, make("tbody", {}, ...NUMBERS.map((name) => make("tr", {},
        make("th", { scope: "row" }, titleOf(name)),
        make("td", { className: "number" }, this.number(name)))))),
    );
    // Painting anew must not lose the place of the keyboard.
    if (!focused || focused.isConnected) return;
    const same = (one) => one.tagName === focused.tagName && one.textContent === focused.textContent;
    ([...this.rest.querySelectorAll("button, input")].find(same)
      ?? this.rest.querySelector("[aria-current=true]")).focus({ preventScroll: true });
  }

  number(name) {
    const value = this.told[name];
    if (name === "sample" && value < 0) return "not in the store";
    return typeof value === "string" ? value : show(value, 6);
  }

  figure(view, words) {
    const { told } = this;
    const caption = make("figcaption", {}, words);
    if (view === "flow") caption.append(make("span", { className: "wheel" }));
    const image = make("img", { alt: words });
    image.addEventListener("error", async () => {
      const refused = await refusal(image.src);
      if (!refused) {
        image.src = image.src;
        return;
      }
      image.remove();
      caption.textContent = `${words}: ${refused.message}`;
    }, { once: true });
    image.src = `/views/${this.store()}/${told.generation}/${told.row}/${view}`;
    return make("figure", { className: view === "frame" ? "wide" : "" }, image, caption);
  }

  flags() {
    this.marks = [["bad", "f"], ["interesting", "i"]].map(([mark, key]) => {
      const button = make("button", { type: "button" }, `${mark} `, make("kbd", {}, key));
      button.dataset.mark = mark;
      button.addEventListener("click", () => this.flag(mark));
      return button;
    });
    this.note = make("input", { type: "text", maxLength: 2000, value: this.told.note });
    const { told, note } = this;
    note.addEventListener("change", () => this.save(told, told.flag, note.value));
    this.showFlag();
    return [...this.marks, make("label", {}, "Note ", note)];
  }

  showFlag() {
    for (const button of this.marks) button.setAttribute("aria-pressed", button.dataset.mark === this.told.flag);
    this.note.disabled = this.told.flag === "none";
    if (this.note.disabled) this.note.value = "";
  }

  flag(mark) {
    return this.save(this.told, this.told.flag === mark ? "none" : mark, this.note.value);
  }

  async save(told, mark, note) {
    const row = await setFlag(this.store(), told, mark, note);
    if (!row) return;
    problem(null);
    this.changed(row);
    if (this.told !== told) return;
    // Not the note: somebody may be typing there.
    Object.assign(told, row);
    this.showFlag();
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
