// Requests to the server, and small things for making elements.

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answerOf(response) {
  const content = await response.json();
  if (!response.ok) throw new Problem(content.error, response.status);
  return content;
}

export async function get(path, parameters) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : "";
  return answerOf(await fetch(path + query));
}

export async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return answerOf(await fetch(path, { method: "POST", headers, body: JSON.stringify(content) }));
}

/** An element with properties and children; names with a dash become attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "for" || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function show(number, digits = 4) {
  if (number === null || number === undefined) return "unknown";
  if (Number.isInteger(number)) return String(number);
  return String(Number(number.toPrecision(digits)));
}

/** A function that runs when it has not been called for some milliseconds. */
export function calmed(run, milliseconds = 150) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), milliseconds);
  };
}

export function problem(error) {
  const place = document.getElementById("problem");
  place.hidden = !error;
  place.textContent = error ? error.message : "";
}
