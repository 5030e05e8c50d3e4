"""Write docs/licences.md from what the packages that are installed say of themselves.

python docs/licences.py
"""

import re
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("", "app", "fast", "gpu", "heic", "pretrain")  # "" is what everyone installs
NAMES = {
    "Apache": "Apache-2.0", "Apache 2.0": "Apache-2.0", "BSD": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT", "ISC License": "ISC", "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC", "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip
INTRODUCTION = """\
# Licences

fewshot_iqa is licensed under Apache-2.0. It installs the packages below, as they state their licences; `make licences`
writes this page, and `make sbom` an inventory (CycloneDX) of the exact versions, dist/sbom.json.

All are permissive, with these exceptions:

- `tqdm` is partly under MPL-2.0: changes of its own files are to be published, and nothing else.
- The wheels of `opencv-python-headless` contain FFmpeg (LGPL-2.1), in libraries that can be replaced.
- The wheels of `pillow-heif`, of the extra `heic` alone, contain libheif, libde265 (LGPL-3.0) and x265 (GPL-2.0),
  and are under GPL-2.0 as a whole: who passes on a product with them has to keep to that. Without the extra, HEIC is
  not read, and nothing else changes.
- The wheels of numpy, scipy and OpenCV contain the run-time library of GCC (GPL-3.0 with its exception, which asks
  nothing of programs that use it).
- On Linux, torch from the Python Package Index brings NVIDIA's libraries, which are proprietary; torch's index for the
  CPU does without.

| package | licence | asked for by |
| --- | --- | --- |"""


def closure() -> dict[str, str]:
    """{package: the extra that asks for it, or ""} of all that is needed at run time and installed here."""
    found: dict[str, str] = {}
    seen = set()

    def follow(package: str, inner: str, extra: str) -> None:
        for line in requires(package) or []:
            need = Requirement(line)
            if need.marker is not None and not need.marker.evaluate({"extra": inner}):
                continue
            for each in ("", *need.extras):
                name = re.sub(r"[-_.]+", "-", need.name).lower()
                if (name, each) in seen:
                    continue
                seen.add((name, each))
                try:
                    distribution(name)
                except PackageNotFoundError:
                    continue
                found.setdefault(name, extra)
                follow(name, each, extra)

    for extra in EXTRAS:
        follow("fewshot-iqa", extra, extra)
    return found


def licence(package: str) -> str:
    """As SPDX names it where the package does."""
    stated = distribution(package).metadata
    classifiers = [line for line in stated.get_all("Classifier", []) if line.startswith("License ::")]
    texts = [stated.get("License-Expression"), *(line.rpartition(" :: ")[2] for line in classifiers)]
    texts.append((stated.get("License") or "").strip().partition("\n")[0])
    text = next((text for text in texts if text and text != "UNKNOWN"), "not stated")
    return NAMES.get(text, text)


if __name__ == "__main__":
    rows = [f"| {name} | {licence(name)} | {extra or 'all'} |" for name, extra in sorted(closure().items())]
    page = Path(__file__).with_suffix(".md")
    page.write_text("\n".join([INTRODUCTION, *rows]) + "\n", encoding="utf-8")
