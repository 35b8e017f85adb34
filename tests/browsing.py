"""A real browser for tests of what it shows: the system's own, for none is downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

from tests.lacking import lacking

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PHONE, DESK = 390, 1440  # pixels wide

# Every element with text of its own: its size, where it ends, and its contrast with what lies behind it (WCAG 2.1).
LOOKED_AT = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (colour.startsWith('rgb(')) return channels(colour);
    }
    return channels(getComputedStyle(document.body).backgroundColor);
  };
  const found = [];
  for (const element of document.querySelectorAll('main *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own) continue;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    const ink = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const pair = [light(channels(ink)), light(behind(element))].sort((a, b) => b - a);
    found.push({text: element.textContent.trim().slice(0, 40), height: box.height, right: box.right, left: box.left,
                scrolls: !!element.closest('.scroll'), contrast: (pair[0] + 0.05) / (pair[1] + 0.05)});
  }
  return found;
}"""


@contextmanager
def browsing() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        lacking("Chromium (Debian: apt install chromium-headless-shell)")
    expect.set_options(timeout=30_000)  # milliseconds: machines of tests are busy
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
