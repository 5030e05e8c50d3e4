"""Coverage-guided fuzzing of what reads files of strangers, by atheris, which is no dependency of the project.

    pip install --target /tmp/atheris atheris
    PYTHONPATH=.:/tmp/atheris python tests/fuzz/run.py image --seconds 600 --out image.json

What is found is written beside the report, an input for each kind of fault; a small one belongs in `corpus/TARGET/`,
which tests/test_fuzz.py replays. An input may take `SLOWEST` seconds and `MEMORY` bytes. Of Linux: the memory is
counted there.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

MEMORY = 2_000_000_000  # bytes that an input may take
# bytes of an input
LONGEST = {"image": 4096, "csv": 1024, "votes": 1024, "mat": 4096, "xlsx": 8192, "yaml": 3072, "checkpoint": 8192}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("target", choices=LONGEST)
    arguments.add_argument("--seconds", type=float, default=600)
    arguments.add_argument("--out", type=Path, default=Path("fuzz.json"))
    arguments.add_argument("--inputs", type=Path, help="a folder that keeps the inputs which reached something new")
    given = arguments.parse_args()
    folder = given.out.with_suffix("")
    inputs = given.inputs or folder / "inputs"
    for each in (folder, inputs):
        each.mkdir(parents=True, exist_ok=True)
    end, total = time.monotonic() + given.seconds, {"target": given.target, "executions": 0, "ended": 0, "faults": {}}
    started = time.monotonic()
    while (left := end - time.monotonic()) > 1:
        # a process ends where an input crashes the interpreter, is killed or hangs: the next one goes on
        report = folder / "process.json"
        report.unlink(missing_ok=True)
        command = [sys.executable, __file__, given.target, str(report), f"-max_total_time={left:.0f}"]
        command += [f"-artifact_prefix={folder}/", f"-max_len={LONGEST[given.target]}", "-timeout=60"]
        command += ["-rss_limit_mb=0", "-print_final_stats=1", "-verbosity=0", str(inputs)]
        done = subprocess.run(command, env=os.environ | {"FSIQA_FUZZING": "1"}, capture_output=True, text=True)
        (folder / "process.log").write_text(done.stdout + done.stderr)
        if not report.is_file():
            sys.exit(f"{done.stderr}\nended with {done.returncode}")
        found = json.loads(report.read_text())
        total["executions"] += found["executions"]
        total["faults"] |= found["faults"]
        for key in ("slowest_seconds", "most_megabytes"):
            total[key] = max(total.get(key, 0), found[key])
        if done.returncode:
            total["ended"] += 1
            total["faults"][f"process ended with {done.returncode}: {done.stderr[-300:]}"] = str(folder)
        total["seconds"] = round(time.monotonic() - started)
        given.out.write_text(json.dumps(total, indent=1) + "\n")
    print(json.dumps(total, indent=1))


def fuzz(name: str, report: Path, *options: str) -> None:
    """One process of libFuzzer, which never returns."""
    import atheris

    os.environ["FSIQA_MAX_MEGAPIXELS"] = "30"
    with atheris.instrument_imports(include=["fewshot_iqa", "PIL", "yaml"]):
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS, fault
    target, inputs = TARGETS[name], Path(options[-1])
    for content in seeds(name):
        (inputs / f"seed-{sha256(content).hexdigest()[:16]}").write_bytes(content)
    for content in seeds(name):
        assert (found := fault(target, content)) is None, found
    words = {word for content in seeds(name) for word in re.findall(rb"[\w:/.@<\"-]{3,24}", content)}
    words |= {b"--part--", b"-1", b"1e999", b"nan", b"4294967296", b"99999999999999999999", b"null", b"\0", b"\n"}
    lines = ["".join(f"\\x{byte:02x}" for byte in word) for word in sorted(words)]
    dictionary = report.parent / "words.txt"
    dictionary.write_text("".join(f'"{line}"\n' for line in lines))
    found: dict = {"executions": 0, "faults": {}, "slowest_seconds": 0.0, "most_megabytes": 0}
    written = time.monotonic()
    size = int(re.search(r"VmSize:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def run(content: bytes) -> None:
        nonlocal written
        before = time.monotonic()
        if wrong := fault(target, content):
            kind = re.sub(r"\d{3,}|0x\w+|'[^']*'", "#", wrong)[:120]
            if kind not in found["faults"]:
                path = report.parent / f"fault-{len(found['faults'])}-{sha256(kind.encode()).hexdigest()[:8]}"
                path.write_bytes(content)
                found["faults"][kind] = f"{path.name}: {wrong}"
        now = time.monotonic()
        found["executions"] += 1
        found["slowest_seconds"] = round(max(found["slowest_seconds"], now - before), 2)
        if now - written > 1 or found["executions"] == 1:
            found["most_megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first) // 1024
            written = now
            part = report.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.replace(report)

    atheris.Setup([sys.argv[0], f"-dict={dictionary}", *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    if os.environ.get("FSIQA_FUZZING"):
        fuzz(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    else:
        main()
