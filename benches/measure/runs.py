"""One run, measured; many runs, taken in turns."""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import threading
import time

from measure import page
from measure.hosts import children

LIMIT_SECONDS = 900
SYSTEM_FLOOR = "floor-ssh2-system"


class Memory(threading.Thread):
    """The most that a process and all below it have had resident at once, looked at every few milliseconds.

    What the kernel keeps of a process that has ended (ru_maxrss) begins with the size of the one that started it.
    With few hosts, their agents are looked at too: the largest one counts.
    """

    FEW_HOSTS = 4

    def __init__(self, pid, hosts):
        super().__init__(daemon=True)
        self.pid, self.ended = pid, threading.Event()
        self.sshds = [child.pid for child in hosts.running.values()]
        self.most_mib, self.agent_mib = 0.0, 0.0
        self.start()

    def run(self):
        while not self.ended.wait(0.02):
            self.most_mib = max(self.most_mib, sum(map(resident_mib, tree(self.pid))))
            if len(self.sshds) <= self.FEW_HOSTS:
                agents = [pid for sshd in self.sshds for pid in tree(sshd) if is_agent(pid)]
                self.agent_mib = max([self.agent_mib, *map(resident_mib, agents)])


def tree(pid):
    return [pid] + [below for child in children(pid) for below in tree(int(child))]


def is_agent(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("agent-")
    except OSError:
        return False


def resident_mib(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


class Bench:
    """Runs contenders, and keeps each run as a line of JSON."""

    def __init__(self, hosts, work, contenders):
        self.hosts, self.work, self.contenders = hosts, work, contenders
        self.lines = hosts.work / "results.jsonl"
        (hosts.work / "logs").mkdir(exist_ok=True)
        (hosts.work / "tmp").mkdir(exist_ok=True)

    def measure(self, name, start, count):
        """Wall, processor of both sides, memory of the controller's side, its exit code."""
        self.hosts.settle()
        before = self.hosts.cpu()
        log = self.hosts.work / "logs" / f"{name}-{count}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        with open(log, "wb") as out:
            began = time.monotonic()
            child = subprocess.Popen(
                start.arguments, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=self.hosts.work,
                env=environment | start.environment,
            )
            memory = Memory(child.pid, self.hosts)
            ending = threading.Timer(LIMIT_SECONDS, child.kill)
            ending.start()
            child.stdin.write(start.stdin.encode())
            child.stdin.close()
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.monotonic() - began
            ending.cancel()
            memory.ended.set()
            child.returncode = os.waitstatus_to_exitcode(status)
        for command in self.contenders.after(name):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        self.hosts.settle()
        return {
            "name": name, "hosts": count, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime,
            "host_cpu": self.hosts.cpu() - before, "rss_mib": memory.most_mib, "agent_mib": memory.agent_mib,
            "code": child.returncode,
        }

    def keep(self, result):
        with open(self.lines, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(result) + "\n")

    def compare(self, names, count, runs):
        """The standard work: cold, unchanged, plan; all in turns. A result is a list of runs by (name, state)."""
        self.hosts.up(count)
        expected = self.expected(count)
        found = {}
        for turn in range(runs):
            # Who goes first changes, so that nobody always has the warmer machine.
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                self.hosts.make_cold(count)
                for state in ("cold", "unchanged", "plan"):
                    if state == "plan" and name in self.contenders.NO_PLAN:
                        continue
                    result = self.measure(name, self.contenders.command(name, state, count), count)
                    result |= {"state": state, "right": self.work.digest(count) == expected}
                    self.keep(result)
                    found.setdefault((name, state), []).append(result)
                    print(told(result), flush=True)
        return found

    def expected(self, count):
        """What the script makes of cold hosts; and each that is compared has been there once."""
        self.hosts.make_cold(count)
        start = self.contenders.command("script", "cold", count)
        result = self.measure("script", start, count)
        if result["code"]:
            raise SystemExit(f"the script fails: see {self.hosts.work}/logs")
        right = self.work.digest(count)
        self.measure("rollbook", self.contenders.command("rollbook", "unchanged", count), count)
        return right


def told(result):
    wrong = "" if result["right"] and result["code"] == 0 else f"  WRONG: exit code {result['code']}"
    return (
        f"{result['name']:10} {result['hosts']:5} hosts {result['state']:10} {result['wall']:8.3f} s, processor "
        f"{result['cpu'] * 1000 / result['hosts']:7.2f} ms here, {result['host_cpu'] * 1000 / result['hosts']:7.1f} ms there "
        f"a host, {result['rss_mib']:6.1f} MiB{wrong}"
    )


def median(results, key):
    return statistics.median(result[key] for result in results)


def ratio(results, others, key="wall"):
    """The median of the ratios within each turn: what slows the machine down for a while, slows both."""
    return statistics.median(mine[key] / other[key] for mine, other in zip(results, others))


def is_right(results):
    return all(result["right"] and result["code"] == 0 for result in results)


def programs(root, folder, rollbook, is_built):
    """Builds what is measured, and copies it into the work folder."""
    build = ["cargo", "build", "--release", "--bin", "rollbook"]
    floor = ["cargo", "bench", "--no-run", "--bench", "floor-ssh2", "--bench", "floor-agent"]
    built = {} if rollbook or is_built else executables(root, build, "rollbook")
    built |= {} if is_built else executables(root, floor, "floor-ssh2", "floor-agent")
    built |= {} if is_built else floor_of_the_system(root)
    built |= {"rollbook": rollbook} if rollbook else {}
    placed = {name: folder / "bin" / name for name in ("rollbook", "floor-ssh2", "floor-agent", SYSTEM_FLOOR)}
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for name, file in built.items():
        placed[name].unlink(missing_ok=True)
        shutil.copy(file, placed[name])
    return {name: file for name, file in placed.items() if file.exists()}


def floor_of_the_system(root):
    """The floor as a program is built that asks for nothing else: with the OpenSSL of the system, and linked to it."""
    if page.system_openssl() is None:
        print("the floor with the system's OpenSSL is left out: it needs pkg-config and libssl-dev", flush=True)
        return {}
    build = ["cargo", "bench", "--no-run", "--bench", "floor-ssh2", "--target-dir", "target/system-openssl"]
    settings = {"OPENSSL_NO_VENDOR": "1", "RUSTFLAGS": "-C target-feature=-crt-static"}
    return {SYSTEM_FLOOR: executables(root, build, "floor-ssh2", **settings)["floor-ssh2"]}


def executables(root, command, *names, **environment):
    command = [*command, "--message-format=json"]
    told = subprocess.run(
        command, cwd=root, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment,
    )
    found = {}
    for line in told.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] in names:
            found[message["target"]["name"]] = message["executable"]
    return found
