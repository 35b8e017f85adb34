// One pair at a time, and a key for each answer: y same, n different, s skip, u undo.
"use strict";

const csrfToken = document.querySelector("meta[name=csrf-token]").content;
let deck = [];
let at = 0;
let said = []; // of each pair before the one that is shown; null: skipped
let busy = false;

function show() {
  deck.forEach((each, index) => { each.hidden = index !== at; });
  document.getElementById("judged").hidden = at < deck.length;
  document.getElementById("count").textContent = said.filter(Boolean).length;
}

function tell(sentence) {
  document.getElementById("told").textContent = sentence;
}

async function keep(pair, answer) {
  const body = new URLSearchParams(new FormData(pair.querySelector("form")));
  body.set("said", answer);
  const headers = { "x-csrf-token": csrfToken, "hx-request": "true" };
  const kept = await fetch("/judge", { method: "POST", body, headers }).catch(() => null);
  if (!kept || !kept.ok) tell("That was not saved. Load the page again.");
  return Boolean(kept && kept.ok);
}

async function press(key) {
  if (busy) return;
  busy = true;
  const answers = { y: "same", n: "different" };
  if (key === "u" && at > 0) {
    if (!said[at - 1] || (await keep(deck[at - 1], "forget"))) {
      at -= 1;
      said.pop();
      tell("Taken back.");
    }
  } else if (key === "s" && at < deck.length) {
    said.push(null);
    at += 1;
    tell("Skipped.");
  } else if (key in answers && at < deck.length && (await keep(deck[at], answers[key]))) {
    said.push(answers[key]);
    at += 1;
    tell(answers[key] === "same" ? "Kept: same." : "Kept: different.");
  }
  show();
  busy = false;
}

document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id !== "pairs" || !document.getElementById("deck")) return;
  deck = [...document.querySelectorAll(".pair")].filter((each) => each.id !== "judged");
  at = 0;
  said = [];
  for (const button of document.querySelectorAll("[data-press]")) {
    button.hidden = false;
    button.addEventListener("click", (event) => { event.preventDefault(); press(button.dataset.press); });
  }
  show();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  if (deck.length && ["y", "n", "s", "u"].includes(event.key)) press(event.key);
});
