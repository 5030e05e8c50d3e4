"""Pages in a real browser: served by a process of their own, opened in Chromium, and checked by axe-core."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from fewshot_iqa.model import named

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
# it knows the CLIPs that this process has named
MAIN = """from pathlib import Path
from fewshot_iqa.cli import main
from fewshot_iqa.model import named
named.FILE = Path({!r})
main()"""
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 3}


@contextmanager
def serving(command, *options):
    """The server of a page, its `address`, and what it `said` before."""
    start = [sys.executable, "-c", MAIN.format(str(named.FILE)), command, *map(str, options)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [*start, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    said = []
    try:
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://\S+", line):
                server.said, server.address = "".join(said), found[0]
                break
        else:
            raise AssertionError("".join(said))
        yield server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def ask(address, body=None, **headers):
    """(status, answer) of a request; AssertionError where nobody listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {name.replace("_", "-"): text for name, text in headers.items()})
    for _ in range(25):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.02)
    raise AssertionError("no answer")


@contextmanager
def opened(browser, address, **options):
    """The page, its requests in `page.asked`, and the errors of its console in `page.problems`."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.asked, page.problems = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()


def serious(page):
    """What axe-core finds serious or worse on a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
