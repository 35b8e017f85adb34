"""Makes what docs/tutorial.md shows anew: it does what the page says, and writes down what is printed and drawn.

    TWINVEC_HOME=/tmp/tutorial python -m docs.making.tutorial

Some minutes, most of them training; it needs a headless Chromium to take pictures of the report. The stack that it
starts is stopped at the end, and its data are left for you to delete. It must not know more of the product than its
reader does.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.pages import Block, blocks_of, commands_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
PICTURES = ROOT / "docs" / "images" / "tutorial"
LEFT_OUT = r"make env|\. \.venv/bin/activate|twinvec up"  # done by whoever runs this, and at its beginning
SECTIONS = {  # of the report -> the picture that shows it
    "The first digits": "digits",
    "Pairs": "pairs",
    "Architecture": "architecture",
    "Loss and accuracy by epoch": "loss",
    "Judged pairs": "judged",
    "Two of one digit, and another": "three",
    "Distances": "distances",
    "Neighbours": "neighbours",
}
WIDTH = 720  # pixels of a picture
COLOURS = 128  # of a picture's palette


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "docs").symlink_to(ROOT / "docs")
        shell("twinvec up --detach --broker-port 0", work)
        try:
            os.environ["TWINVEC_BROKER_URL"] = broker_url()
            follow(work)
            take_pictures(work)
        finally:
            shell("twinvec down", work)


def follow(work: Path) -> None:
    """Do what each block says, and write what it prints into the block of text behind it."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    for block in list(blocks_of(PAGE)):
        if block.language == "python":
            given = python(block, names)
        elif block.language == "sh":
            given = "".join(shell(each, work) for each in commands_of(block) if not re.match(LEFT_OUT, each))
        else:
            continue
        if block.expected is not None:
            output = "".join(f"{line.rstrip()}\n" for line in given.splitlines() if line.strip())
            page = PAGE.read_text()
            shown = f"{block.text}```\n\n```text\n"
            PAGE.write_text(page.replace(f"{shown}{block.expected}```", f"{shown}{output}```"))


def python(block: Block, names: dict[str, Any]) -> str:
    text = block.text.replace("Twinvec()", f"Twinvec({os.environ['TWINVEC_BROKER_URL']!r})")
    with redirect_stdout(io.StringIO()) as written:
        exec(compile(text, str(block), "exec"), names)
    return written.getvalue()


def shell(command: str, work: Path) -> str:
    """What a command prints; of a training, what it says of its epochs on stderr as well."""
    print(command, flush=True)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    errors = subprocess.STDOUT if command.startswith("twinvec train") else None
    ran = subprocess.run(
        command, shell=True, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
    )
    if ran.returncode:
        sys.exit(f"{command} ended with {ran.returncode}\n{ran.stdout}")
    return ran.stdout


def broker_url() -> str:
    run = (Path(os.environ.get("TWINVEC_HOME", ".twinvec")) / "run.json").read_text()
    found = re.search(r'"broker_url": "([^"]+)"', run)
    assert found is not None
    return found[1]


def take_pictures(work: Path) -> None:
    """Of the sections of the report that the page had written, and of the map."""
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium-headless-shell") or "chromium"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH + 32, "height": 900})
        page.goto((work / "report.html").as_uri())
        for title, name in SECTIONS.items():
            section = page.locator("section").filter(has=page.get_by_role("heading", name=title, exact=True))
            save(Image.open(io.BytesIO(section.locator("h2 ~ *").last.screenshot())), name)
        browser.close()
    picture = Image.open(work / "map.png")
    save(picture.resize((WIDTH, picture.height * WIDTH // picture.width), Image.Resampling.LANCZOS), "map")


def save(picture: Image.Image, name: str) -> None:
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
