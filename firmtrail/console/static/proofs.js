/**
 * Shows on a page what this browser has verified of the log: in the bar under the header, at an
 * entry as a path in the tree, on the audit page, and as a red page where something contradicts.
 *
 * The body says where the logs are: data-tlog="/console/acme/tlog". An element with data-log="1" is
 * where a log is checked; with data-position="7" an entry of it is proven.
 */

import { Alarm, CheckedLog, FRESH_MS, Trust, Unanswered, canProve } from "./trust.js";
import { hex } from "./tlog.js";

const base = document.body.dataset.tlog;
const trust = new Trust(base);

const spaced = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const dayOf = (time) =>
  new Date(time).toLocaleDateString("en-GB", { dateStyle: "long", timeZone: "UTC" });
const timeOf = (time) => `${time.slice(0, 19).replace("T", " ")} UTC`;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const mono = (text) => element("span", { class: "mono" }, text);
const state = (kind, text) => element("span", { class: `state ${kind}` }, text);

// The bar: how far this browser has checked the log.

function showChecked() {
  const place = document.getElementById("checked");
  if (place === null) return;
  const { logs, alarm } = trust.read();
  const newest = Math.max(...Object.keys(logs).map(Number));
  if (alarm !== null) {
    place.replaceChildren(state("bad", "not what this browser verified"));
  } else if (newest in logs) {
    const size = element("b", { class: "mono" }, spaced(logs[newest].size));
    place.replaceChildren("checked by this browser up to ", size, " ✓");
    place.title = `Last checked ${timeOf(logs[newest].at)}`;
  }
}

async function checkInTheBackground() {
  const { logs } = trust.read();
  const newest = Math.max(...Object.keys(logs).map(Number));
  const isDue = newest in logs && Date.now() - Date.parse(logs[newest].at) > FRESH_MS;
  if (isDue && !document.querySelector("[data-log]")) await new CheckedLog(base, newest).check();
}

// The red page.

const MEANINGS = {
  key: "Whoever answers does not have the key that signed this log when this browser saw it first.",
  signature: "What was shown as signed is not signed by the key of this log.",
  cut: "Events that were in the log, and that this browser has verified, are no longer in it.",
  fork: "The log has another past than the one that this browser has verified.",
  entry: "The entry on this page is not the one that the signed log has at this position.",
  page: "This page shows another entry than the log has at this position.",
  withheld: "The log's key has signed events that the server does not show.",
  gone: "The server no longer shows a log that this browser has verified.",
};

function showAlarm() {
  const { alarm } = trust.read();
  if (alarm === null || document.getElementById("alarm") !== null) return;
  const page = element("dialog", { id: "alarm", "aria-labelledby": "alarm-title" });
  page.append(
    element("h1", { id: "alarm-title" }, "The log is not what it was"),
    element("p", { class: "large" }, alarm.message),
    element("p", {}, MEANINGS[alarm.kind]),
    element("p", {}, `Log ${alarm.number} · found ${timeOf(alarm.at)} by this browser`),
    element("p", {}, "Keep the evidence, and do not rely on what these pages show. Compare with " +
      "another person’s browser, with a copy of the log, or with a checkpoint kept elsewhere."),
    alarmActions(page, alarm),
  );
  document.body.prepend(page);
  page.addEventListener("cancel", (event) => event.preventDefault());
  page.addEventListener("close", showBanner);
  page.showModal();
}

function alarmActions(page, alarm) {
  const look = element("button", { type: "button" }, "Look at the page all the same");
  look.addEventListener("click", () => page.close());
  const forget = element("button", { type: "button" }, "Trust this server from scratch…");
  forget.addEventListener("click", () => confirmForget(forget));
  return element("p", { class: "acts" }, download("Download the evidence", "evidence.json", {
    origin: location.origin, base, ...alarm,
  }), look, forget);
}

function confirmForget(button) {
  button.textContent = "Forget what this browser has verified of these logs";
  button.addEventListener("click", () => {
    trust.forget();
    location.reload();
  });
}

function showBanner() {
  const again = element("button", { type: "button" }, "Read why");
  again.addEventListener("click", () => {
    banner.remove();
    document.getElementById("alarm").showModal();
  });
  const banner = element("div", { class: "alarm", role: "alert" },
    element("p", {}, "The log is not what it was when this browser verified it. ", again));
  document.querySelector("main").prepend(banner);
}

function download(words, name, content) {
  const isText = typeof content === "string";
  const text = isText ? content : JSON.stringify(content, null, 2);
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  return element("a", { class: "button", href: url, download: name }, words);
}

// One entry: its proof in words, and drawn.

async function showProof(place) {
  const { log, position } = place.dataset;
  const proven = await new CheckedLog(base, Number(log)).prove(Number(position));
  const shown = new TextEncoder().encode(document.getElementById("entry").textContent);
  if (hex(shown) !== hex(proven.entry)) {
    const alarm = new Alarm("page", `The page shows another text than position ${position} has.`, {
      shown: document.getElementById("entry").textContent,
      entry: new TextDecoder().decode(proven.entry),
      note: proven.note,
    });
    trust.raise(alarm, Number(log));
    throw alarm;
  }
  place.replaceChildren(
    element("p", {}, state("good", "in the log"), ` ${hashesOf(proven.path.length)} from this entry to the root that `,
      mono(`${proven.key.name}+${hex(proven.key.id)}`), ` signed at size `, mono(spaced(proven.head.size)),
      `. Nothing that this browser has seen since ${dayOf(proven.since)} was changed.`),
    drawing(proven, Math.max(WIDTH_MIN, Math.min(WIDTH_MAX, place.clientWidth))),
    pathTable(proven),
  );
  offerReceipt(proven.receipt, position);
}

const hashesOf = (count) => {
  if (count === 0) return "The entry is the whole tree: no hash leads";
  return count === 1 ? "1 hash leads" : `${count} hashes lead`;
};

function offerReceipt(receipt, position) {
  const link = document.getElementById("receipt");
  link.replaceWith(download(link.textContent, `position-${position}.tlog-proof`, receipt));
}

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const short = (bytes) => `${hex(bytes).slice(0, 4)}…`;
const STEP = 44, SIDE = 60, TOP = 24, WIDTH_MIN = 280, WIDTH_MAX = 760;

/** Draws the path from the root down to the entry; each sibling is on the side where it is. */
function drawing({ path, leaf, head }, width) {
  const nodes = placed(path, leaf, head, width);
  const lines = shape("g", { class: "branches" });
  const trail = shape("g", { class: "path" });
  const dots = shape("g", {});
  nodes.forEach((node, n) => {
    const above = nodes[n - 1];
    if (above) {
      trail.append(shape("path", { d: `M${above.x} ${above.y}L${node.x} ${node.y}` }));
      lines.append(shape("path", { d: `M${above.x} ${above.y}L${node.sibling.x} ${node.y}` }));
      dots.append(dot(node.sibling, node.y, "sibling"));
    }
    dots.append(dot(node, node.y, n === 0 || n === nodes.length - 1 ? "end" : "step"));
  });
  const title = shape("title", {}, `The ${path.length} hashes from the entry to the signed root`);
  const height = TOP * 2 + STEP * path.length;
  return shape("svg", { class: "proof", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" },
    title, lines, trail, dots);
}

function placed(path, leaf, head, width) {
  const down = [...path].reverse();
  const turns = down.map(({ isRight }) => (isRight ? -1 : 1));
  let x = 0;
  const xs = [0, ...turns.map((turn) => (x += turn * (SIDE / 2)))];
  const middle = (Math.max(...xs) + Math.min(...xs)) / 2;
  const spread = Math.min(1, (width / 2 - 130) / (Math.max(...xs) - middle || 1));
  const at = (value) => width / 2 + (value - middle) * spread;
  const rootNode = { x: at(0), y: TOP, label: `root ${short(head.root)} signed`, isRight: true };
  return [rootNode, ...down.map((step, n) => {
    const isLast = n === down.length - 1;
    const other = xs[n] - turns[n] * (SIDE / 2);
    const label = isLast ? `this entry ${short(leaf)}` : short(step.node);
    return {
      x: at(xs[n + 1]), y: TOP + STEP * (n + 1), label, isRight: !step.isRight,
      sibling: { x: at(other) + (step.isRight ? 24 : -24), label: short(step.sibling), isRight: step.isRight },
    };
  })];
}

function dot({ x, label, isRight }, y, kind) {
  const anchor = isRight ? { x: x + 14, "text-anchor": "start" } : { x: x - 14, "text-anchor": "end" };
  return shape("g", { class: kind },
    shape("circle", { cx: x, cy: y, r: kind === "end" ? 8 : 6 }),
    shape("text", { class: "m", y: y + 4, ...anchor }, label));
}

/** Lists the same hashes for people that see no drawing, and for those that compute on paper. */
function pathTable({ path, leaf, head }) {
  const rows = path.map(({ sibling, isRight, range }) => element("tr", {},
    element("td", {}, isRight ? "right" : "left"),
    element("td", { class: "n" }, `${spaced(range.start)} to ${spaced(range.stop - 1)}`),
    element("td", {}, element("code", {}, hex(sibling)))));
  const names = ["Joined on its", "Root of positions", "Hash"];
  const heads = names.map((name, n) => element("th", { scope: "col", ...(n === 1 && { class: "n" }) }, name));
  return element("details", { class: "numbers" },
    element("summary", {}, "All hashes"),
    element("p", {}, "The hash of the entry is ", element("code", {}, hex(leaf)), ", the root is ",
      element("code", {}, hex(head.root)), "."),
    element("div", { class: "wide" },
      element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))));
}

// The audit page: what is trusted, and "check now".

async function showCheck(place) {
  const log = Number(place.dataset.log);
  place.replaceChildren(state("busy", "checking …"));
  const { head, key, since, from } = await new CheckedLog(base, log).check();
  const grew = from === null
    ? "Seen for the first time: from now on this browser notices any change."
    : `The first ${spaced(from)} events are those that it verified before.`;
  place.replaceChildren(
    element("p", {}, state("good", "consistent"), " The checkpoint of ", mono(spaced(head.size)),
      ` events is signed by `, mono(`${key.name}+${hex(key.id)}`), `. ${grew}`),
    element("p", { class: "sub" }, `This browser has known the log since ${dayOf(since)}.`),
  );
}

function offerCheck(button) {
  button.hidden = false;
  button.addEventListener("click", () => document.querySelectorAll("[data-log]").forEach(work));
}

/** Does what an element asks for, and says there why it could not be done. */
async function work(place) {
  try {
    await (place.dataset.position === undefined ? showCheck(place) : showProof(place));
    showChecked();
  } catch (error) {
    fail(place, error);
  }
}

function fail(place, error) {
  if (error instanceof Alarm) {
    place.replaceChildren(state("bad", "not proven"), ` ${error.message}`);
    showChecked();
    showAlarm();
    return;
  }
  const reason = error instanceof Unanswered ? error.message : "This browser could not compute it.";
  place.replaceChildren(state("warn", "not checked"), ` ${reason}`);
  if (!(error instanceof Unanswered)) throw error;
}

function begin() {
  showChecked();
  showAlarm();
  const places = [...document.querySelectorAll("[data-log]")];
  if (!canProve()) {
    const why = " Browsers compute proofs only for pages over https, or from this machine.";
    places.forEach((place) => place.replaceChildren(state("warn", "not checked"), why));
    return;
  }
  document.querySelectorAll("[data-check-now]").forEach(offerCheck);
  places.forEach(work);
  checkInTheBackground().then(showChecked, (error) => {
    if (error instanceof Alarm) showAlarm();
    else if (!(error instanceof Unanswered)) throw error;
  });
}

begin();
