"""What a key exchange costs: logins and nothing else, by libssh2 and by the system's ssh, all in turns."""
import subprocess

from measure.hosts import addresses
from measure.page import number, table
from measure.runs import median

# The cheap and safe first, as src/transport/ssh2/wire.rs has them, and what OpenSSH prefers.
WANTED = [
    "mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256", "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512",
]
HOSTS = 20


def run(bench, page, about, runs):
    """Each exchange has hosts that take no other."""
    who, hosts = bench.contenders, bench.hosts
    known = subprocess.run(["ssh", "-Q", "kex"], capture_output=True, text=True, check=True).stdout.split()
    found = {}
    for turn in range(runs):
        for name in [name for name in WANTED if name in known]:
            hosts.stop(list(hosts.running))
            for host in addresses(HOSTS):
                hosts.add(host, ["MaxStartups=1000", f"KexAlgorithms={name}"])
            starts = {"libssh2": who.floor("nothing", "-", HOSTS), "ssh": system(who, name)}
            for by, start in starts.items():
                if (name, by) in found and not found[(name, by)]:
                    continue
                result = bench.measure(f"exchange-{by}", start, HOSTS)
                # libssh2 does not know all of them.
                runs_of = found.setdefault((name, by), [])
                runs_of += [] if result["code"] else [result]
            print(f"{name}: turn {turn + 1}", flush=True)
    hosts.stop(list(hosts.running))
    rows = [row(name, found) for name in WANTED if (name, "ssh") in found]
    columns = [f"{HOSTS} logins, ms each", "libssh2: wall", "here", "there", "ssh: wall", "here", "there"]
    missing = [name for name in WANTED if name not in known]
    words = f"\nNot known to this OpenSSH: {', '.join(f'`{name}`' for name in missing)}.\n" if missing else ""
    page.part("exchange", about + table(columns, rows) + words)


def system(who, name):
    """The system's ssh, which runs something that ends at once."""
    words = " ".join(["ssh", *who.hosts.ssh(f"KexAlgorithms={name}"), "-p", str(who.hosts.port)])
    return who.each(["xargs", "-P", str(who.parallel), "-I{}", "sh", "-c", f"exec {words} root@{{}} true"], HOSTS)


def row(name, found):
    cells = []
    for by in ("libssh2", "ssh"):
        results = found.get((name, by))
        keys = ("wall", "cpu", "host_cpu")
        cells += [number(median(results, key) / HOSTS * 1000) if results else "-" for key in keys]
    return [f"`{name}`", *cells]
