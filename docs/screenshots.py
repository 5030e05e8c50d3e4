"""The pictures of the pages that fsiqa makes: `python docs/screenshots.py`, with the extra `dev` and Chromium."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import skimage
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
TYPES = "gaussian_blur,motion_blur,jpeg,white_noise,darken"
LIGHT = {"viewport": {"width": 1000, "height": 640}}
DARK = LIGHT | {"color_scheme": "dark"}
PHONE = {"viewport": {"width": 360, "height": 700}, "is_mobile": True, "has_touch": True}


def command(*words: str) -> list[str]:
    return [
        sys.executable, "-u", "-c", f"import sys; sys.argv = {['fsiqa', *words]!r}; "
        "from fewshot_iqa.cli import main; main()",
    ]  # fmt: skip


@contextmanager
def served(place: str, *words: str) -> Iterator[str]:
    """The address of a page."""
    server = subprocess.Popen(command(*words, "--no-browser"), cwd=place, stdout=subprocess.PIPE, text=True)
    try:
        yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
    finally:
        server.kill()
        server.wait()


with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
    photos = Path(place, "photos")
    photos.mkdir()
    for name in PHOTOGRAPHS:
        shutil.copy(Path(skimage.__path__[0], "data", name), photos)
    browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

    def picture(name: str, address: str, screen: dict, *, ready: str, click: str = "", whole: bool = False) -> None:
        page = browser.new_context(**screen).new_page()
        page.goto(address)
        if click:
            page.click(click)
        page.locator(ready).first.wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=DOCS / f"{name}.jpg", type="jpeg", quality=80, full_page=whole)

    for name, options, screen in (
        ("rate", (), LIGHT),
        ("rate-pairs", ("--scale", "pairs"), DARK),
        ("rate-phone", ("--scale", "continuous"), PHONE),
    ):
        with served(place, "rate", "photos", "-o", f"{name}.csv", "--rater", "Ann", *options) as address:
            picture(name, address, screen, click="#who button", ready="body[data-shown]")

    for words in (
        ("synthesize", "photos", "-o", "set", "--types", TYPES, "--short-side", "256"),
        (
            "adapt",
            "--labels",
            "set/labels.csv",
            "--root",
            "set",
            "--score-column",
            "kadid_mos",
            "--range",
            "1,5",
            "--group",
            "reference",
        ),
        ("score", "runs/adapt", "set", "--csv", "scores.csv"),
        ("report", "runs/adapt", "-o", "report.html"),
    ):
        subprocess.run(command(*words), cwd=place, check=True)
    with served(place, "browse", "scores.csv", "set", "--rater", "Ann") as address:
        picture("browse", address, LIGHT, ready=".tile img")
        picture("browse-image", address, DARK, click=".open", ready="#large img")
        picture("browse-phone", address, PHONE, ready=".tile img")
    report = Path(place, "report.html").as_uri()
    picture("report", report, LIGHT, ready="h1", whole=True)
    picture("report-dark", report, DARK, ready="h1")
    picture("report-phone", report, PHONE, ready="h1")
