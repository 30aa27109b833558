"""How time and memory grow: with hosts, steps, the size of a file, the inventory."""
import json
import os
import subprocess

from measure.hosts import addresses
from measure.page import number, table
from measure.plot import lines
from measure.work import SHARED, variables

KIB = 1024


class Growth:
    def __init__(self, bench, page, about, most_hosts, most_bytes):
        self.bench, self.page, self.about = bench, page, about
        self.hosts, self.work, self.who = bench.hosts, bench.work, bench.contenders
        self.most_hosts, self.most_bytes = most_hosts, most_bytes

    def all(self):
        self.with_hosts()
        self.with_steps()
        self.with_bytes()
        self.with_inventory()

    def ours(self, state, count, runbook, *more):
        """One run of ours that must succeed on every host."""
        start = self.who.rollbook(state, count, runbook, None, "--json", *more)
        result = self.bench.measure(f"growth-{runbook}", start, count)
        result |= {"state": state, "runbook": runbook, "succeeded": succeeded(self.hosts.work, result)}
        self.bench.keep(result)
        print(f"{runbook} {count} hosts {state}: {result['wall']:.2f} s, {result['rss_mib']:.0f} MiB", flush=True)
        return result

    def with_hosts(self):
        """The one-template runbook on 1 to 1,000 hosts."""
        rows, ours, again, floor, memory = [], [], [], [], []
        for count in [n for n in (1, 10, 50, 100, 200, 500, 1000) if n <= self.most_hosts]:
            self.hosts.up(count)
            self.hosts.make_cold(count)
            # The first contact, which brings the agent, is not what grows here.
            self.ours("unchanged", count, "one-template.yml")
            self.hosts.make_cold(count)
            cold = self.ours("cold", count, "one-template.yml")
            unchanged = self.ours("unchanged", count, "one-template.yml")
            self.hosts.make_cold(count)
            script = self.bench.measure("script", self.who.floor("one-template", "sh -s", count), count)
            lost = count - min(cold["succeeded"], unchanged["succeeded"])
            cells = [cold["wall"], unchanged["wall"], script["wall"], unchanged["cpu"] / count * 1000, cold["rss_mib"]]
            rows.append([f"{count:,}", *map(number, cells), lost])
            for line, value in ((ours, cold["wall"]), (again, unchanged["wall"]), (floor, script["wall"])):
                line.append((count, value))
            memory.append((count, cold["rss_mib"]))
        columns = ["hosts", "first run, s", "unchanged, s", "a script, s", "processor, ms a host", "MiB", "results lost"]
        self.page.part("hosts", self.about + table(columns, rows))
        timed = {"first run": ours, "unchanged": again, "a script over ssh": floor}
        self.page.picture("hosts", lines("One template on many hosts", "hosts", "seconds", timed))
        self.page.picture("hosts-memory", lines("Memory of the controller", "hosts", "MiB", {"Rollbook": memory}))

    def with_steps(self):
        """One host, and a runbook of 10 to 1,000 files."""
        self.hosts.up(1)
        rows, series = [], {"first run": [], "unchanged": [], "plan": []}
        for steps in (10, 30, 100, 300, 1000):
            name = f"steps-{steps}.yml"
            (self.work.given / name).write_text(steps_runbook(steps))
            self.hosts.make_cold(1)
            found = [self.ours(state, 1, name) for state in ("cold", "unchanged", "plan")]
            rows.append([f"{steps:,}", *(number(result["wall"]) for result in found), number(found[0]["rss_mib"])])
            for line, result in zip(series.values(), found):
                line.append((steps, result["wall"]))
        self.page.part("steps", self.about + table(["steps", "first run, s", "unchanged, s", "plan, s", "MiB"], rows))
        self.page.picture("steps", lines("A runbook of many files on one host", "steps", "seconds", series))

    def with_bytes(self):
        """One host, and a file of 1 KiB to 1 GiB."""
        self.hosts.only(1)
        rows, times, here, there = [], [], [], []
        sizes = [KIB << (4 * power) for power in range(6)]
        for size in [size for size in sizes if size <= self.most_bytes]:
            write_random(self.work.given / "files/big.bin", size)
            self.hosts.make_cold(1)
            result = self.ours("cold", 1, "big-file.yml")
            cells = [result["wall"], size / 2**20 / result["wall"], result["rss_mib"], result["agent_mib"]]
            rows.append([size_words(size), *map(number, cells)])
            for line, value in ((times, result["wall"]), (here, result["rss_mib"]), (there, result["agent_mib"])):
                line.append((size / KIB, max(value, 0.1)))
        (self.work.given / "files/big.bin").unlink()
        columns = ["file", "s", "MiB/s", "MiB of the controller", "MiB of the agent"]
        self.page.part("bytes", self.about + table(columns, rows))
        self.page.picture("bytes", lines("One file to one host", "KiB", "seconds", {"first run": times}))
        self.page.picture(
            "bytes-memory",
            lines("Memory while a file is sent", "KiB", "MiB", {"the controller": here, "the agent": there}),
        )

    def with_inventory(self):
        """What happens before the first connection: reading, and rendering for every host."""
        rows, listing, rendering = [], [], []
        for count in (10, 100, 1000, 10_000, 100_000):
            inventory = self.work.given / f"many-{count}.yml"
            write_inventory(inventory, count)
            read = self.measured("hosts", [str(inventory)], 0)
            book = str(self.work.given / "one-template.yml")
            # The last host lacks a variable: all is rendered, this is told, and nothing is connected to.
            rendered = self.measured("plan", [str(inventory), book], 3)
            cells = [read["wall"], read["rss_mib"], rendered["wall"], rendered["rss_mib"]]
            rows.append([f"{count:,}", *map(number, cells)])
            listing.append((count, read["wall"]))
            rendering.append((count, rendered["wall"]))
            inventory.unlink()
        columns = ["hosts", "`rollbook hosts`, s", "MiB", "rendered for a plan, s", "MiB"]
        self.page.part("inventory", self.about + table(columns, rows))
        series = {"hosts": listing, "rendered": rendering}
        self.page.picture("inventory", lines("Before the first connection", "hosts", "seconds", series))

    def measured(self, verb, files, code):
        inventory, *books = files
        start = self.who.plain([verb, *books, "-i", inventory])
        result = self.bench.measure(f"inventory-{verb}", start, 1)
        if result["code"] != code:
            raise SystemExit(f"{verb} -i {inventory} ends with {result['code']}: see {self.hosts.work}/logs")
        print(f"{verb} of {inventory}: {result['wall']:.2f} s, {result['rss_mib']:.0f} MiB", flush=True)
        return result


def succeeded(folder, result):
    """How many hosts the run's last word counts as done."""
    log = folder / "logs" / f"{result['name']}-{result['hosts']}.log"
    for line in reversed(log.read_text(encoding="utf-8").splitlines()):
        if line.startswith("{") and '"run_closed"' in line:
            return find(json.loads(line), "hosts").get("succeeded", 0)
    raise SystemExit(f"a run has no last word: see {log}")


def find(event, key):
    """A key of an event, wherever the envelope has it."""
    if key in event:
        return event[key]
    return next(find(inner, key) for inner in event.values() if isinstance(inner, dict))


def steps_runbook(steps):
    top = "{{ root }}/{{ hostname }}"
    out = ["runbook: Many files", "hosts: all", "steps:"]
    out += [f'  - copy: {{dest: "{top}/file-{n}", content: "{{{{ hostname }}}} {n}\\n"}}' for n in range(steps)]
    return "\n".join(out) + "\n"


def write_random(path, size):
    """What no compression makes smaller."""
    with open(path, "wb") as file:
        while size > 0:
            file.write(os.urandom(min(size, 1 << 22)))
            size -= 1 << 22


def write_inventory(path, count):
    hosts = {f"n{number:06}": variables(number) for number in range(1, count + 1)}
    del hosts[f"n{count:06}"]["role"]
    shared = SHARED | {"root": "/srv", "hostname": "{{ host.name }}", "user": "ops"}
    path.write_text(json.dumps({"all": {"vars": shared, "hosts": hosts}}, indent=0))


def size_words(size):
    for unit, of in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= of:
            return f"{size // of} {unit}"
    return f"{size // KIB} KiB"
