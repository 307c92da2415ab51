"""Takes the pictures of a report's page that README shows: python -m tests.browser.shoot PAGE.html [FOLDER]

Writes report-desktop.png and report-phone.png into the folder (default docs/images), each at most 300 kB.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.chromium import launch

MAX_BYTES = 300_000
# Width, height and scale: the picture shows the verdict and the classes.
SHOTS = {"report-desktop": (1280, 1190, 1.0), "report-phone": (390, 844, 2.0)}


def shoot(page: Path, folder: Path) -> list[Path]:
    """Takes a picture of a page in the size of a desktop and of a phone; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name, (width, height, scale) in SHOTS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme="light"
            )
            opened = context.new_page()
            opened.goto(page.resolve().as_uri())
            written.append(folder / f"{name}.png")
            written[-1].write_bytes(_small(opened.screenshot()))
            context.close()
        browser.close()
    return written


def _small(png: bytes) -> bytes:
    """Reduces a picture to 256 colours; a page has few colours."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    data = buffer.getvalue()
    if len(data) > MAX_BYTES:
        raise ValueError(f"A picture has {len(data)} bytes. Expected at most {MAX_BYTES}.")
    return data


if __name__ == "__main__":
    for path in shoot(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")):
        sys.stdout.write(f"{path}\n")
