// What every page does with scripts: keys, the search's matches, live parts, and the person's zone.
// Pages work without it. It makes no request of its own except through htmx.

const find = document.querySelector(".find input");
const keys = document.getElementById("keys");

function isTyping(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

// Keys: "/" finds, "?" lists the keys, "g" and a letter go to a page.
const GOES = { f: 0, d: 1, r: 2, o: 3, l: 4 };
let isGoing = false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (isGoing) {
    isGoing = false;
    const tab = document.querySelectorAll(".top nav a")[GOES[event.key]];
    if (tab) tab.click();
    return;
  }
  if (event.key === "/" && find) {
    event.preventDefault();
    find.focus();
    find.select();
  } else if (event.key === "?" && !keys.open) {
    keys.showModal();
  } else if (event.key === "g") {
    isGoing = true;
  }
});

// Matches: at most ten appear as one types; arrow keys move through them.
const matches = document.getElementById("matches");

if (find) {
  const form = find.form;
  let typed;
  find.addEventListener("input", () => {
    clearTimeout(typed);
    if (find.value.trim() === "") matches.replaceChildren();
    else typed = setTimeout(showMatches, 120);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      matches.replaceChildren();
      find.blur();
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const places = [find, ...matches.querySelectorAll("a")];
    const step = event.key === "ArrowDown" ? 1 : places.length - 1;
    places[(places.indexOf(document.activeElement) + step) % places.length].focus();
    event.preventDefault();
  });
}

function showMatches() {
  const asked = new URLSearchParams(new FormData(find.form));
  asked.set("part", "matches");
  htmx.ajax("GET", `${find.form.action}?${asked}`, { target: "#matches", swap: "innerHTML" });
}

// Live parts: an element with data-every="5" is read again while somebody looks at the page.
function startLive(element) {
  const everyMs = Number(element.dataset.every) * 1000;
  const timer = setInterval(() => {
    if (!element.isConnected) clearInterval(timer);
    else if (!document.hidden && !isPaused(element)) htmx.trigger(element, "due");
  }, everyMs);
}

function isPaused(element) {
  return element.dataset.paused !== undefined || element.contains(document.activeElement);
}

document.querySelectorAll("[data-every]").forEach(startLive);

// A button with data-pauses="id" stops that live part, and starts it again.
document.querySelectorAll("button[data-pauses]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => {
    const part = document.getElementById(button.dataset.pauses);
    const isPausing = part.dataset.paused === undefined;
    if (isPausing) part.dataset.paused = "";
    else delete part.dataset.paused;
    button.textContent = isPausing ? "Continue" : "Pause";
    if (!isPausing) htmx.trigger(part, "due");
  });
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  document.querySelectorAll("[data-every]").forEach((each) => {
    if (!isPaused(each)) htmx.trigger(each, "due");
  });
});

// Zone: the exact times are in UTC until a person asks for the zone of their own.
const zone = document.querySelector("button.zone");
const inZone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

function retitle(isLocal) {
  document.querySelectorAll("time[datetime]").forEach((time) => {
    time.dataset.utc ??= time.title;
    time.title = isLocal ? inZone.format(new Date(time.dateTime)) : time.dataset.utc;
  });
  zone.textContent = isLocal ? "Times in your zone" : "Times in UTC";
}

if (zone) {
  let isLocal = localStorage.getItem("firmtrail.zone") === "local";
  zone.hidden = false;
  zone.addEventListener("click", () => {
    isLocal = !isLocal;
    localStorage.setItem("firmtrail.zone", isLocal ? "local" : "utc");
    retitle(isLocal);
  });
  retitle(isLocal);
  document.addEventListener("htmx:after:swap", () => retitle(isLocal));
}

// The moment: moving the slider says which position it means, and letting go leads there.
const moment = document.getElementById("moment");

if (moment) {
  const position = moment.elements.namedItem("position");
  const shown = document.getElementById("moment-position");
  position.addEventListener("input", () => {
    shown.textContent = position.value.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  });
  position.addEventListener("pointerup", () => {
    if (position.value !== position.defaultValue) moment.requestSubmit();
  });
}
