"""Where things end: a thousand hosts, few descriptors, a small bastion, large files."""
import contextlib
import ctypes
import subprocess

from measure.growth import succeeded, write_random
from measure.hosts import BASTION, addresses
from measure.page import number, table
from measure.runs import median
from measure.standard import holds

CIPHER = "aes128-gcm@openssh.com"
SIZE = 100 << 20
# What both directions of the line have together.
RATE = "1gbit"
CLONE_NEWNET = 0x40000000
# What sshd has unless it is told otherwise; the first of a kind counts.
DEFAULTS = ("MaxStartups=10:30:100",)


@contextlib.contextmanager
def line(hosts):
    """A network of our own, whose loopback is as fast as a line between machines. All hosts end before it and with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as before:
        hosts.stop(list(hosts.running))
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "a network namespace cannot be made")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            shape = ["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", RATE, "burst", "256k", "latency", "50ms"]
            subprocess.run(shape, check=True)
            yield
        finally:
            hosts.stop(list(hosts.running))
            libc.setns(before.fileno(), CLONE_NEWNET)


class Limits:
    def __init__(self, bench, page, about, most_hosts):
        self.bench, self.page, self.about = bench, page, about
        self.hosts, self.work, self.who = bench.hosts, bench.work, bench.contenders
        self.most_hosts = most_hosts

    def all(self):
        rows = [self.descriptors(), self.bastion()]
        columns = ["", "reached", "s", "MiB of the controller", ""]
        self.page.part("limits", self.about + table(columns, rows))
        self.big_files()

    def run(self, name, start, count, most_mib):
        result = self.bench.measure(name, start, count)
        reached = succeeded(self.hosts.work, result)
        is_well = reached == count and result["code"] == 0 and result["rss_mib"] <= most_mib
        row = [f"{reached} of {count}", number(result["wall"]), number(result["rss_mib"]), holds(is_well)]
        print(name, *row, flush=True)
        return row

    def descriptors(self):
        count = self.most_hosts
        self.hosts.up(count)
        self.hosts.make_cold(count)
        start = self.who.rollbook("cold", count, "one-template.yml", None, "--json")
        start.arguments = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "limited", *start.arguments]
        return [f"{count} hosts, `ulimit -n 256`, under 256 MiB", *self.run("descriptors", start, count, 256)]

    def bastion(self):
        """By the system's ssh, through one sshd that takes ten logins at once."""
        count = min(200, self.most_hosts)
        self.hosts.up(count)
        self.hosts.make_cold(count)
        self.hosts.add(BASTION, DEFAULTS)
        config = self.work.given / "through-bastion"
        config.write_text(
            f"Host *\n  User root\n  Port {self.hosts.port}\n  IdentityFile {self.hosts.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.hosts.known}\n  BatchMode yes\n  LogLevel ERROR\n"
            f"Host 127.0.1.* 127.0.2.* 127.0.3.* 127.0.4.*\n  ProxyJump {BASTION}\n"
        )
        inventory = self.work.inventory(count, "bastion", transport="openssh", ssh_args=["-F", str(config)])
        start = self.who.rollbook("cold", count, "one-template.yml", inventory, "--json")
        row = self.run("bastion", start, count, 256)
        self.hosts.stop([BASTION])
        return [f"{count} hosts behind a bastion with sshd's own `MaxStartups`", *row]

    def big_files(self):
        """100 MiB to 4 hosts, against scp with the same cipher: as fast as the processors go, and over a line."""
        write_random(self.work.given / "files/big.bin", SIZE)
        rows, words = self.big_file("")
        with line(self.hosts):
            over, more = self.big_file(f" over {RATE.replace('gbit', ' Gbit/s')}")
        (self.work.given / "files/big.bin").unlink()
        columns = ["100 MiB to 4 hosts", "s", "MiB/s", "MiB of memory here", "of an agent"]
        self.page.part("files", self.about + table(columns, rows + over) + f"\n{words}\n{more}")

    def big_file(self, where):
        """The rows of a table, and what they come to."""
        count = 4
        self.hosts.only(count)
        found = {"rollbook": [], "scp": []}
        for _ in range(3):
            for name, start in (("rollbook", self.who.rollbook("cold", count, "big-file.yml")), ("scp", self.scp(count))):
                self.hosts.make_cold(count)
                result = self.bench.measure(f"file-{name}", start, count)
                if result["code"] or not self.all_have(count, SIZE):
                    raise SystemExit(f"the large file has not come: see {self.hosts.work}/logs")
                found[name].append(result)
        speed = {name: count * SIZE / 2**20 / median(results, "wall") for name, results in found.items()}
        share = speed["rollbook"] / speed["scp"]
        words = {"rollbook": f"Rollbook{where}", "scp": f"`scp -c {CIPHER}`, four at once{where}"}
        rows = [
            [words[name], number(median(results, "wall")), number(speed[name]), number(median(results, "rss_mib")),
             number(median(results, "agent_mib")) if name == "rollbook" else "-"]
            for name, results in found.items()
        ]
        return rows, f"{number(share)} of scp's throughput{where}; must be at least 0.9: {holds(share >= 0.9)}.\n"

    def scp(self, count):
        words = " ".join(["scp", "-q", "-c", CIPHER, *self.hosts.ssh(), "-P", str(self.hosts.port)])
        one = f"exec {words} {self.work.given}/files/big.bin root@{{}}:/var/lib/data/big.bin"
        return self.who.each(["xargs", "-P", str(count), "-I{}", "sh", "-c", one], count)

    def all_have(self, count, size):
        return all((self.hosts.data(host) / "big.bin").stat().st_size == size for host in addresses(count))
