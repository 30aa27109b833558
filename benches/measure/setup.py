"""The peers, each in a venv of its own below the work folder."""
import subprocess
import sys

PACKAGES = {"ansible": ["ansible-core"], "mitogen": ["ansible-core", "mitogen"], "pyinfra": ["pyinfra"]}


def run(folder):
    for name, packages in PACKAGES.items():
        venv = folder / "venv" / name
        if not (venv / "bin/pip").exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", *packages], check=True)
        print(f"{name}: {venv}")
