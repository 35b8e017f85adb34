// The sheet: strokes by mouse, pen or finger, sent as a picture when the pen has been up for a moment; and pictures
// that are dropped or pasted. It decodes none of them.
"use strict";

const canvas = document.getElementById("canvas");
const form = document.getElementById("look");
const file = document.getElementById("picture");
const hint = document.getElementById("hint");
const sheet = document.getElementById("sheet");
const undo = document.getElementById("undo");
const clear = document.getElementById("clear");
const pen = canvas.getContext("2d");
const WIDTH = 0.075; // of the pen, as a share of the sheet
const PAUSE = 350; // milliseconds that the pen is up before what was drawn is looked up

let strokes = [];
let stroke = null;
let waiting = 0;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function draw() {
  const size = canvas.width;
  pen.clearRect(0, 0, size, size);
  pen.lineWidth = WIDTH * size;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = getComputedStyle(canvas).color;
  for (const points of strokes) {
    pen.beginPath();
    pen.moveTo(points[0][0] * size, points[0][1] * size);
    for (const [x, y] of points) pen.lineTo(x * size, y * size);
    if (points.length === 1) pen.lineTo(points[0][0] * size + 0.1, points[0][1] * size);
    pen.stroke();
  }
  hint.hidden = strokes.length > 0;
  undo.disabled = clear.disabled = strokes.length === 0;
}

function send(files) {
  const held = new DataTransfer();
  for (const each of files) held.items.add(each);
  file.files = held.files;
  htmx.trigger(form, "submit");
}

function look() {
  clearTimeout(waiting);
  if (!strokes.length) return;
  waiting = setTimeout(() => canvas.toBlob((blob) => send([new File([blob], "drawing.png", { type: "image/png" })])), PAUSE);
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  clearTimeout(waiting);
  stroke = [place(event)];
  strokes.push(stroke);
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const seen = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const each of seen.length ? seen : [event]) stroke.push(place(each));
  draw();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => {
    if (!stroke) return;
    stroke = null;
    look();
  });
}

undo.addEventListener("click", () => { strokes.pop(); draw(); look(); });
clear.addEventListener("click", () => { strokes = []; clearTimeout(waiting); draw(); });
file.addEventListener("change", () => { if (file.files.length) htmx.trigger(form, "submit"); });
for (const each of form.querySelectorAll("select, .fields input")) {
  each.addEventListener("change", () => { if (file.files.length) htmx.trigger(form, "submit"); });
}
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "Escape") clear.click();
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo.click();
});

function pictures(list) {
  const most = Number(form.dataset.most);
  const held = [...list].filter((each) => each.kind === undefined || each.kind === "file");
  return held.map((each) => (each.getAsFile ? each.getAsFile() : each)).filter(Boolean).slice(0, most);
}
document.addEventListener("dragover", (event) => { event.preventDefault(); sheet.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) sheet.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  sheet.classList.remove("over");
  const found = pictures(event.dataTransfer.items || event.dataTransfer.files);
  if (found.length) send(found);
});
document.addEventListener("paste", (event) => {
  const found = pictures(event.clipboardData.items);
  if (found.length) send(found);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
