// Labels by one key: a digit labels the tile that is picked, arrows pick another, `u` takes the last one back.
"use strict";

const tiles = document.getElementById("tiles");
const told = document.getElementById("told");
const csrfToken = document.querySelector("meta[name=csrf-token]").content;
const done = []; // [key, collection, the label before]
let saving = Promise.resolve(); // one after the other, in the order of the keys

function all() {
  return [...tiles.querySelectorAll(".tile")];
}

function of(key, collection) {
  return all().find((each) => each.dataset.key === key && each.dataset.collection === collection);
}

async function label(key, collection, value) {
  const body = new URLSearchParams({ key, collection, label: value });
  const headers = { "x-csrf-token": csrfToken, "hx-request": "true" };
  const answer = await fetch(tiles.dataset.labelUrl, { method: "POST", body, headers }).catch(() => null);
  if (!answer || !answer.ok) {
    told.textContent = "That was not saved. Load the page again.";
    return false;
  }
  const made = document.createElement("template");
  made.innerHTML = await answer.text();
  const old = of(key, collection);
  const focused = old && old === document.activeElement;
  const item = made.content.querySelector("li");
  if (old && item) old.closest("li").replaceWith(item);
  item.querySelector(".tile").classList.add("saved");
  if (focused) item.querySelector(".tile").focus();
  return true;
}

function pick(step) {
  const list = all();
  const at = list.indexOf(document.activeElement);
  const next = list[Math.max(0, Math.min(list.length - 1, at + step))];
  if (next) next.focus();
}

function perRow() {
  const list = all();
  const first = list.findIndex((each) => each.offsetTop !== list[0].offsetTop);
  return first < 0 ? list.length : first;
}

function save(key, collection, value, said) {
  saving = saving.then(async () => {
    if (await label(key, collection, value)) told.textContent = said;
  }).catch(() => { told.textContent = "That went wrong. Load the page again."; });
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  if (event.key === "u" && done.length) {
    const [key, collection, before] = done.pop();
    save(key, collection, before, "Taken back.");
    of(key, collection)?.focus();
    return;
  }
  const tile = document.activeElement.closest ? document.activeElement.closest(".tile") : null;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow(), ArrowUp: -perRow() };
  if (event.key in steps && (tile || event.key !== "ArrowDown")) {
    if (!tile) return;
    event.preventDefault();
    pick(steps[event.key]);
  } else if (tile && (/^[0-9]$/.test(event.key) || event.key === "Backspace" || event.key === "Delete")) {
    event.preventDefault();
    const value = /^[0-9]$/.test(event.key) ? event.key : "";
    const { key, collection, label: before } = tile.dataset;
    done.push([key, collection, before]);
    tile.dataset.label = value;
    save(key, collection, value, value ? `Labelled ${value}.` : "The label is gone.");
    pick(1);
  }
}

if (tiles) {
  document.addEventListener("keydown", press);
  all()[0]?.focus({ preventScroll: true });
}
