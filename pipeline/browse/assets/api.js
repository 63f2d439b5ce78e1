// Requests to the server, and small things for making elements.

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Problem("The server does not answer: start it again, and reload the page.", 0);
  }
}

async function refusalOf(response) {
  const json = response.headers.get("content-type") === "application/json";
  const words = json ? (await response.json()).error : "see the terminal of the server";
  return new Problem(words, response.status);
}

async function answerOf(response) {
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

export async function get(path, parameters) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : "";
  return answerOf(await ask(path + query));
}

export async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return answerOf(await ask(path, { method: "POST", headers, body: JSON.stringify(content) }));
}

/** Why a picture did not come, as a `Problem`; null if it comes now. */
export async function refusal(address) {
  try {
    const response = await ask(address);
    return response.ok ? null : await refusalOf(response);
  } catch (error) {
    return error;
  }
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

/** Tell a problem, or take it off: in the dialog that is open, or else at the top of the page. */
export function problem(error) {
  const place = document.querySelector("dialog[open] .problem") ?? document.getElementById("problem");
  place.hidden = !error;
  place.textContent = error ? error.message : "";
}
