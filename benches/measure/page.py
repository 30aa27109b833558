"""The page: tables between markers in docs/performance.md, and what they were measured on."""
import datetime
import os
import pathlib
import platform
import re
import subprocess


def table(columns, rows):
    """A table of Markdown; all columns but the first are numbers."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def number(value, unit=""):
    """With three digits that mean something."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}{unit}"


class Page:
    """Prints each part, and puts it between its markers if it is to be written."""

    def __init__(self, root, is_written):
        self.file = root / "docs/performance.md"
        self.pictures = root / "docs/performance"
        self.is_written = is_written

    def part(self, name, text):
        print(f"\n{text}", flush=True)
        if not self.is_written:
            return
        begin, end = f"<!-- benches/run: {name} -->", "<!-- end -->"
        old = self.file.read_text(encoding="utf-8")
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        new, found = re.subn(pattern, lambda _: f"{begin}\n{text}{end}", old, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{self.file} has no place for {name}: it needs the lines {begin} and {end}")
        self.file.write_text(new, encoding="utf-8")

    def picture(self, name, svg):
        if self.is_written:
            self.pictures.mkdir(exist_ok=True)
            (self.pictures / f"{name}.svg").write_text(svg, encoding="utf-8")


def machine(folder, rollbook):
    """One line: when, on what, by which versions."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    disk = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0].strip()
    ours = subprocess.run([rollbook, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    load = os.getloadavg()[0]
    return (
        f"{datetime.date.today()}, {os.cpu_count()} processors ({model[1] if model else platform.machine()}), "
        f"{memory:.0f} GiB, {disk}, Linux {platform.release()}, {ssh}, {ours}. Load when it was begun: {load:.1f}.\n\n"
    )


def system_openssl():
    """The version that programs can be built with here."""
    try:
        asked = subprocess.run(["pkg-config", "--modversion", "openssl"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def version(folder, name):
    """Of a peer in its venv."""
    package = {"ansible": ["ansible-core"], "mitogen": ["mitogen", "ansible-core"], "pyinfra": ["pyinfra"]}[name]
    site = next((folder / "venv" / name / "lib").glob("python3*/site-packages"))
    found = []
    for one in package:
        info = next(site.glob(one.replace("-", "_") + "-*.dist-info"))
        found.append(f"{one} {info.name.split('-')[1].removesuffix('.dist')}")
    return ", ".join(found)
