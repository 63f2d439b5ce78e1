// The grid: only what is seen is in the page, whatever the number of windows.
//
// Nothing here listens to its own effects. Scrolling, resizing and arriving rows each ask for one
// rendering in the next frame; a rendering changes only what differs and asks for nothing.

import { Problem, calmed, get, make, refusal, show } from "./api.js";

const PAGE = 200; // rows in one request
const PAGES_KEPT = 40;
// Height of the words below a picture, in pixels: as in the style sheet.
const WIDE = matchMedia("(min-width: 2600px)");
const words = () => (WIDE.matches ? 44 : 32);
const EDGE = 6; // border and padding of a tile, both sides, in pixels
const GAP = 6;
const TALLEST = 8e6; // beyond this browsers lose pixels, so the scroll bar is scaled
const BEAT = 180; // milliseconds a frame is shown

export class Grid {
  constructor(scroller, list, { load, opened, gone }) {
    Object.assign(this, { scroller, list, load, opened, gone });
    this.total = 0;
    this.active = 0;
    this.size = 128;
    this.tiles = new Map(); // index: element
    this.pages = new Map(); // number: rows, or null while they come
    this.version = 0;
    this.frame = 0;
    this.top = 0; // pixels of the whole above what is seen
    this.barAt = 0; // where the scroll bar was
    this.playing = null;
    // Not while the bar is where no event has told yet.
    this.settle = calmed(() => this.scale > 1 && scroller.scrollTop === this.barAt && this.goTo(this.top));
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    addEventListener("resize", () => this.schedule());
  }

  /** Show another answer. */
  reset(total, generation, store, first, active = 0) {
    this.version += 1;
    this.total = total;
    this.generation = generation;
    this.store = store;
    this.active = active;
    this.stop();
    this.pages.clear();
    this.pages.set(0, first);
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.goToIndex(active);
  }

  resize(size) {
    this.size = size;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.goToIndex(this.firstSeen ?? 0);
  }

  goToIndex(index) {
    this.measure();
    this.goTo(Math.floor(Math.min(index, this.total) / this.columns) * this.cell[1]);
  }

  goTo(top) {
    this.list.style.height = `${this.height}px`;
    this.top = Math.min(Math.max(top, 0), Math.max(this.whole - this.seen[1], 0));
    this.scroller.scrollTop = this.top / this.scale;
    this.barAt = this.scroller.scrollTop;
    this.schedule();
  }

  /** A step, as of a wheel, moves by as much, whatever the scale; a jump goes to its share. */
  scrolled() {
    const bar = this.scroller.scrollTop;
    const by = bar - this.barAt;
    this.barAt = bar;
    if (this.scale === 1 || Math.abs(by) > this.seen[1]) this.top = bar * this.scale;
    else this.top = Math.min(Math.max(this.top + by, 0), this.whole - this.seen[1]);
    // The bar is behind after a step: it follows when the scrolling rests.
    this.settle();
    this.schedule();
  }

  schedule() {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.render();
      });
    }
  }

  measure() {
    this.cell = [this.size + EDGE + GAP, this.size + EDGE + GAP + words()];
    this.seen = [this.scroller.clientWidth, this.scroller.clientHeight];
    this.columns = Math.max(1, Math.floor((this.seen[0] - GAP) / this.cell[0]));
    // What is left of the width goes between the tiles.
    this.cell[0] = Math.max(this.cell[0], Math.floor((this.seen[0] - GAP) / this.columns));
    this.whole = Math.ceil(this.total / this.columns) * this.cell[1] + GAP;
    this.height = Math.min(this.whole, TALLEST);
    const free = Math.max(this.height - this.seen[1], 1);
    this.scale = this.whole > TALLEST ? (this.whole - this.seen[1]) / free : 1;
  }

  render() {
    const before = `${this.columns} ${this.cell}`;
    this.measure();
    // What was seen first stays so when the width changes.
    if (before !== `${this.columns} ${this.cell}`) this.goToIndex(this.firstSeen ?? 0);
    const scrolled = this.scroller.scrollTop;
    const { top } = this;
    const firstLine = Math.max(Math.floor(top / this.cell[1]) - 1, 0);
    const lastLine = Math.floor((top + this.seen[1]) / this.cell[1]) + 1;
    const first = firstLine * this.columns;
    const last = Math.min((lastLine + 1) * this.columns, this.total);
    this.firstSeen = Math.ceil(top / this.cell[1]) * this.columns;
    for (const [index, tile] of this.tiles) {
      // The active tile stays, so that the keyboard does not lose its place.
      if ((index < first || index >= last) && !tile.contains(document.activeElement)) {
        tile.remove();
        this.tiles.delete(index);
      }
    }
    const places = [...this.tiles.keys()].filter((index) => index < first || index >= last);
    for (let index = first; index < last; index += 1) places.push(index);
    for (const index of places) this.place(index, scrolled - top);
    if (!this.tiles.has(this.active)) this.activate(Math.min(first, Math.max(this.total - 1, 0)));
  }

  place(index, shift) {
    let tile = this.tiles.get(index);
    if (!tile) {
      tile = this.empty(index);
      this.tiles.set(index, tile);
      this.list.append(tile);
    }
    const line = Math.floor(index / this.columns);
    const place = [
      GAP + (index % this.columns) * this.cell[0],
      Math.round(GAP + line * this.cell[1] + shift),
    ];
    const transform = `translate(${place[0]}px, ${place[1]}px)`;
    if (tile.style.transform !== transform) tile.style.transform = transform;
    if (!tile.row) this.fill(index, tile);
  }

  empty(index) {
    const tile = make("li", { "aria-setsize": this.total, "aria-posinset": index + 1 });
    tile.style.width = `${this.size + EDGE}px`;
    tile.style.height = `${this.size + EDGE + words()}px`;
    const picture = make("span", { className: "picture" });
    picture.style.height = `${this.size}px`;
    const button = make(
      "button",
      { className: "tile", type: "button", tabIndex: index === this.active ? 0 : -1 },
      picture,
      make("span", { className: "words" }, "…"),
    );
    button.addEventListener("click", () => this.opened(index, tile.row));
    button.addEventListener("focus", () => this.activate(index));
    button.addEventListener("pointerenter", () => this.play(button));
    button.addEventListener("pointerleave", () => this.stop());
    tile.append(button);
    return tile;
  }

  fill(index, tile) {
    const row = this.rowIfHere(index);
    if (!row) return;
    tile.row = row;
    const button = tile.firstChild;
    const picture = button.firstChild;
    const image = make("img", { alt: "", decoding: "async", draggable: false });
    image.addEventListener("error", () => this.explain(picture, image), { once: true });
    image.src = `/tiles/${this.store}/${this.generation}/${row.row}/${this.size}`;
    picture.replaceChildren(image);
    this.word(button, row);
  }

  word(button, row) {
    const place = `${row.sequence} ${row.first_frame}`;
    const flag = row.flag === "none" ? "" : `, ${row.flag}`;
    button.lastChild.replaceChildren(place, make("br"), `${show(row.motion, 3)} px, ${row.reason}${flag}`);
    button.dataset.flag = row.flag;
  }

  /** Why a picture did not come: said in its place. */
  async explain(picture, image) {
    const refused = await refusal(image.src);
    if (refused) picture.replaceChildren(make("span", { className: "damage" }, refused.message));
    else image.src = image.src;
    if (refused?.status === 410) this.gone(refused);
  }

  rowIfHere(index) {
    const number = Math.floor(index / PAGE);
    const page = this.pages.get(number);
    if (page) return page[index % PAGE];
    if (page === undefined) this.fetch(number);
    return null;
  }

  async fetch(number) {
    const version = this.version;
    this.pages.set(number, null);
    while (this.pages.size > PAGES_KEPT) this.pages.delete(this.pages.keys().next().value);
    try {
      const answer = await this.load(number * PAGE, PAGE);
      if (version !== this.version) return;
      if (answer.generation !== this.generation) {
        this.gone(new Problem("the store was replaced", 410));
        return;
      }
      this.pages.set(number, answer.rows);
      this.schedule();
    } catch (error) {
      if (version === this.version) this.gone(error);
    }
  }

  /** The row at a place, fetched if need be. */
  async row(index) {
    const here = this.rowIfHere(index);
    if (here) return here;
    const answer = await this.load(index, 1);
    return answer.rows[0];
  }

  changed(row) {
    for (const page of this.pages.values()) {
      for (const one of page ?? []) {
        if (one.row === row.row) Object.assign(one, row);
      }
    }
    for (const tile of this.tiles.values()) {
      if (tile.row?.row === row.row) this.word(tile.firstChild, row);
    }
  }

  activate(index) {
    const before = this.tiles.get(this.active);
    if (before) before.firstChild.tabIndex = -1;
    this.active = index;
    const now = this.tiles.get(index);
    if (now) now.firstChild.tabIndex = 0;
  }

  /** Move the focus to a window, wherever it is. */
  move(index) {
    if (!this.total) return;
    const target = Math.min(Math.max(index, 0), this.total - 1);
    this.measure();
    const line = Math.floor(target / this.columns);
    const start = line * this.cell[1];
    const end = start + this.cell[1] + GAP;
    if (start < this.top) this.goTo(start);
    else if (end > this.top + this.seen[1]) this.goTo(end - this.seen[1]);
    this.stop();
    this.render();
    this.activate(target);
    this.tiles.get(target)?.firstChild.focus({ preventScroll: true });
  }

  key(event) {
    const lines = Math.max(Math.floor(this.seen[1] / this.cell[1]), 1);
    const steps = {
      ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1,
      ArrowDown: this.columns, ArrowUp: -this.columns,
      PageDown: this.columns * lines, PageUp: -this.columns * lines,
      Home: -this.total, End: this.total,
    };
    const step = steps[event.key];
    if (step === undefined) return false;
    this.move(this.active + step);
    return true;
  }

  toggle() {
    const button = this.tiles.get(this.active)?.firstChild;
    if (!button) return;
    if (this.playing === button) this.stop();
    else this.play(button);
  }

  play(button) {
    this.stop();
    this.playing = button;
    let frame = 0;
    this.timer = setInterval(() => {
      frame = (frame + 1) % 3;
      button.dataset.frame = frame;
      if (!button.isConnected) this.stop();
    }, BEAT);
  }

  stop() {
    clearInterval(this.timer);
    if (this.playing) delete this.playing.dataset.frame;
    this.playing = null;
  }
}

export const loader = (store, query) => (start, count) =>
  get(`/api/stores/${store}/rows`, { ...query, start, count });
export { PAGE };
