"""The whole way of a new user, in a real browser: rate 60 pictures, adapt, browse, report."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from fewshot_iqa import distort
from tests.browser import needs_browser, opened, serious, serving

GRADES = {1: "5", 2: "4", 3: "3", 4: "2", 5: "1"}  # what is voted on a picture of a level


@pytest.fixture
def photos(tmp_path):
    """Sixty pictures, three photographs at five levels of four distortions, named by their levels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("coffee", "chelsea", "astronaut"):
        photo = Image.fromarray(getattr(data, name)()).resize((320, 240))
        pixels = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1) / 255).float()
        for kind in ("gaussian_blur", "jpeg", "white_noise", "motion_blur"):
            for level in range(1, 6):
                worse = distort(pixels, kind, level, generator=torch.Generator().manual_seed(level))
                image = Image.fromarray((worse.permute(1, 2, 0) * 255).round().byte().numpy())
                image.save(folder / f"{name}-{kind}-{level}.png")
    return folder


@needs_browser
def test_from_a_folder_of_photographs_to_a_report(browser, photos, tmp_path):
    def fsiqa(*command):
        start = [sys.executable, "-c", "from fewshot_iqa.cli import main; main()", *map(str, command)]
        done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with serving("rate", photos, "-o", tmp_path / "ratings.csv") as server, opened(browser, server.address) as page:
        page.fill("#rater", "ann")
        page.click("#who button")
        for count in range(66):  # six come twice
            page.locator(f"#progress:text('{count} rated')").wait_for()
            shown = page.locator("body[data-shown]").get_attribute("data-shown")
            page.wait_for_timeout(160)  # nobody has seen it before
            page.keyboard.press(GRADES[int(shown[-5])])
        page.get_by_text("Every image is rated").wait_for()
        command = page.locator("#end pre").inner_text().split()
    assert command[:3] == ["fsiqa", "adapt", "--labels"]
    said = fsiqa(*command[1:], "--cache", "cache")
    assert "learned from 60 ratings" in said
    assert float(re.search(r"SRCC (0\.\d+) \(95 %", said)[1]) > 0.6
    assert re.search(r"20 more ratings would bring .*\n(for more: fsiqa suggest .*\n)?next: fsiqa score ", said)

    fsiqa("score", "runs/adapt", "photos", "--cache", "cache", "--csv", "scores.csv")
    with (
        serving("browse", tmp_path / "scores.csv", photos, "-o", tmp_path / "ratings.csv") as server,
        opened(browser, server.address) as page,
    ):
        page.get_by_text("60 images").wait_for()
        assert page.locator("img[alt*='rated']").count() > 4
        worst = page.locator(".tile img").first.get_attribute("alt")
        assert re.search(r"-[45]\.png, quality 0\.", worst)
        assert page.problems == []

    assert "wrote report.html" in fsiqa("report", "runs/adapt", "--cache", "cache")
    with opened(browser, (tmp_path / "report.html").as_uri()) as page:
        assert page.get_by_role("heading", name="Image quality by gp_prompts").count() == 1
        assert page.locator("tbody tr").count() >= 3
        assert serious(page) == []
        assert all(url.startswith(("data:", "file:")) for url in page.asked)
