// The status page renews what it shows, and nothing else of itself: neither focus nor scroll moves, and a box stops it.
"use strict";
const EVERY_MS = 30000; // two looks in a fast interval
const SHOWN = ["main", "#seen"];

const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
const label = Object.assign(document.createElement("label"), { className: "box" });
label.append(box, "look again every 30 s");
const said = document.createElement("p");
said.setAttribute("role", "status");
document.querySelector("header").append(label, said);

async function lookAgain() {
  if (!box.checked || document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(EVERY_MS / 2) });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of SHOWN) document.querySelector(part).replaceWith(fresh.querySelector(part));
    said.textContent = "";
  } catch {
    said.textContent = "The gateway does not answer: this is how it was.";
  }
}
setInterval(lookAgain, EVERY_MS);
document.addEventListener("visibilitychange", lookAgain);
