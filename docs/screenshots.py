"""The pictures of the pages that fsiqa serves: `python docs/screenshots.py`, with the extra `dev` and Chromium."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
LIGHT = {"viewport": {"width": 1000, "height": 640}}
PHONE = {"viewport": {"width": 360, "height": 700}, "is_mobile": True, "has_touch": True}
PAGES = {
    "rate": ((), LIGHT),
    "rate-pairs": (("--scale", "pairs"), LIGHT | {"color_scheme": "dark"}),
    "rate-phone": (("--scale", "continuous"), PHONE),
}

with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
    photos = Path(place, "photos")
    photos.mkdir()
    for name in PHOTOGRAPHS:
        shutil.copy(Path(skimage.__path__[0], "data", name), photos)
    browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    for name, (options, screen) in PAGES.items():
        command = [
            "fsiqa",
            "rate",
            str(photos),
            "-o",
            f"{place}/{name}.csv",
            "--rater",
            "Ann",
            "--no-browser",
            *options,
        ]
        code = f"import sys; sys.argv = {command!r}; from fewshot_iqa.cli import main; main()"
        server = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        page = browser.new_context(**screen).new_page()
        page.goto(address)
        page.click("#who button")
        page.locator("body[data-shown]").wait_for()
        page.wait_for_timeout(300)
        page.screenshot(path=DOCS / f"{name}.jpg", type="jpeg", quality=85)
        server.kill()
        server.wait()
