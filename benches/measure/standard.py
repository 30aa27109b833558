"""The standard work in turns: the tables, and what they must show."""
from measure.page import number, system_openssl, table, version
from measure.runs import is_right, median, ratio

WHO = {
    "rollbook": "Rollbook",
    "script": "the script, down one libssh2 channel",
    "system": f"the same, built with the system's OpenSSL {system_openssl()}",
    "agent": "the bare agent, down one libssh2 channel",
    "xargs": "the script, by `xargs ssh`",
    "ansible": "Ansible",
    "mitogen": "Ansible with Mitogen",
    "pyinfra": "pyinfra",
}
STATES = {"cold": "first run", "unchanged": "unchanged", "plan": "plan"}
# How many times as fast as these it must be.
TIMES_FASTER = {"ansible": 100, "mitogen": 25, "pyinfra": 8}


def run(bench, page, given, about):
    out = [about]
    for count in given.counts:
        floors = [name for name in ("script", "system", "agent", "xargs") if name in bench.contenders.known]
        found = bench.compare(["rollbook", *floors], count, given.runs)
        if given.peers and count <= given.peer_hosts:
            # They take so long that more turns would only show the machine's noise.
            found |= peers_apart(bench, given, count)
        out.append(one_table(found, count, bench.hosts.work) + "\n" + what_it_must_show(found, count))
    page.part("standard", "\n".join(out))


def peers_apart(bench, given, count):
    apart = bench.compare(["rollbook", *given.peers], count, given.peer_runs)
    return {("rollbook, beside them" if name == "rollbook" else name, state): runs for (name, state), runs in apart.items()}


def floor_of(found, name, state):
    return found[(name, "cold" if state == "cold" else "unchanged")]


def one_table(found, count, folder):
    rows = []
    for (name, state), results in found.items():
        if name not in WHO:
            continue
        of = f" ({version(folder, name)})" if name in TIMES_FASTER else ""
        beside = [ratio(results, floor_of(found, floor, state)) for floor in ("script", "agent")]
        rows.append([
            f"{WHO[name]}{of}, {STATES[state]}", number(median(results, "wall")), *map(number, beside),
            number(median(results, "cpu") / count * 1000), number(median(results, "host_cpu") / count * 1000),
            number(median(results, "rss_mib")), "" if is_right(results) else "**wrong**",
        ])
    columns = ["", "s", "of the script", "of the agent", "processor here, ms a host", "there, ms a host", "MiB here", ""]
    return f"**{count} hosts**\n\n" + table(columns, rows)


def what_it_must_show(found, count):
    """The promise, line by line."""
    ours = {state: found[("rollbook", state)] for state in STATES}
    script = {state: floor_of(found, "script", state) for state in STATES}
    agent = {state: floor_of(found, "agent", state) for state in STATES}
    lines = [
        ("first run, of the script", ratio(ours["cold"], script["cold"]), 1.0),
        ("unchanged, of the script", ratio(ours["unchanged"], script["unchanged"]), 0.6),
        ("first run, of the bare agent", ratio(ours["cold"], agent["cold"]), 1.3),
        ("unchanged, of the bare agent", ratio(ours["unchanged"], agent["unchanged"]), 1.3),
    ]
    for floor, words in (("system", "built with the system's OpenSSL"), ("script", "built with our OpenSSL")):
        for state in ("cold", "unchanged"):
            if (floor, state) in found:
                what = f"processor of the controller, {STATES[state]}, of the script's, {words}"
                lines.append((what, ratio(ours[state], found[(floor, state)], "cpu"), 1.5))
    rows = [[what, number(is_now), f"at most {most}", holds(is_now <= most)] for what, is_now, most in lines]
    for peer, least in TIMES_FASTER.items():
        for state in ("cold", "unchanged"):
            if (peer, state) in found:
                times = ratio(found[(peer, state)], found[("rollbook, beside them", state)])
                what = f"times as fast as {WHO[peer]}, {STATES[state]}"
                rows.append([what, number(times), f"at least {least}", holds(times >= least)])
    return table([f"{count} hosts", "measured", "must be", ""], rows)


def holds(is_so):
    return "yes" if is_so else "**no**"
