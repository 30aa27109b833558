"""Where the time of an unchanged run goes: what each part adds to the one before it, all in turns."""
import pathlib
import shutil

from measure.page import number, table
from measure.runs import median

MEMORY = pathlib.Path("/dev/shm")


def run(bench, page, about, count, runs):
    who = bench.contenders
    bench.hosts.up(count)
    bench.expected(count)
    in_memory = MEMORY / f"rollbook-bench-{bench.hosts.port}"
    in_memory.mkdir(exist_ok=True)
    parts = {
        "login": who.floor("nothing", "-", count),
        "exec": who.floor("nothing", "exec true", count),
        "bare": who.agent("unchanged", count),
        "nothing": who.rollbook("unchanged", count, "nothing.yml"),
        "plan": who.rollbook("plan", count),
        "memory": who.rollbook("unchanged", count, store=in_memory / "record.db"),
        "all": who.rollbook("unchanged", count),
    }
    found = {name: [] for name in parts}
    for _ in range(runs):
        for name, start in parts.items():
            result = bench.measure(f"budget-{name}", start, count)
            if result["code"]:
                raise SystemExit(f"{name} fails: see {bench.hosts.work}/logs")
            found[name].append(result)
            print(f"{name:8} {result['wall']:.3f} s", flush=True)
    shutil.rmtree(in_memory)
    page.part("budget", about + budget(found, count))


def budget(found, count):
    """Rows add up to the last one."""
    lines = [
        ("connecting, key exchange, login", "login", None),
        ("a channel, and a command in the login shell", "exec", "login"),
        ("finding and starting the agent, hello, opening and closing the run; the controller's own start", "nothing", "exec"),
        ("29 more steps: rendered, sent, looked at, told; journal and record in memory", "memory", "nothing"),
        ("the record's syncs", "all", "memory"),
        ("**an unchanged run**", "all", None),
        ("beside it: the bare agent", "bare", None),
        ("beside it: a plan", "plan", None),
    ]
    rows = []
    for what, name, without in lines:
        cells = [per_host(found, name, without, key, count) for key in ("wall", "cpu", "host_cpu")]
        rows.append([what, *map(number, cells)])
    return table([f"{count} hosts, ms a host", "wall", "processor here", "processor there"], rows)


def per_host(found, name, without, key, count):
    value = median(found[name], key) - (median(found[without], key) if without else 0)
    return value / count * 1000
