"""Hosts on loopback addresses: an sshd for each, in a mount namespace of its own.

What tells one from another is bound over in its namespace: `/var/lib`, with the folder of the journals and locks,
`/var/lib/rollbook`, and one for large files, `/var/lib/data`. Its home is a folder of its own too, so that each has to get
its own agent. All else they share with this machine, the processors above all: what one side saves, the other side gets.
"""
import atexit
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

BASTION = "127.0.250.1"
# The first on the path, so that another OpenSSH can be measured, or the system's. It wants to be called by its whole path.
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
LIB = "/var/lib"
SETTINGS = """\
Port {port}
HostKey {keys}/host
PidFile none
AuthorizedKeysFile {keys}/client.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
LogLevel ERROR
PrintMotd no
Subsystem sftp internal-sftp
"""


def address(number):
    """The address of the host with this number, from 1 on."""
    return f"127.0.{1 + (number - 1) // 250}.{1 + (number - 1) % 250}"


def addresses(count):
    return [address(number) for number in range(1, count + 1)]


class Hosts:
    """All that run. Each is started once, and ends with this process."""

    def __init__(self, work, port):
        self.work, self.port = work, port
        self.keys = work / "keys"
        self.key, self.known = self.keys / "client", self.keys / "known_hosts"
        self.running = {}
        self.moved = 0
        atexit.register(self.stop)

    def tree(self, host):
        """Where the work is done."""
        return self.work / "hosts" / host

    def box(self, host):
        """What is only this host's: its `home`, and its `lib`."""
        return self.work / "boxes" / host

    def data(self, host):
        """What it sees as `/var/lib/data`: in one file system with its journals, as on most hosts."""
        return self.box(host) / "lib/data"

    def ssh(self, *more):
        """Arguments of the system's ssh and scp, but for the port."""
        known = f"UserKnownHostsFile={self.known}"
        options = ["IdentitiesOnly=yes", known, "BatchMode=yes", "LogLevel=ERROR", *more]
        return ["-F", "none", "-i", str(self.key), *(word for option in options for word in ("-o", option))]

    def prepare(self, most):
        """Keys and settings, for as many hosts as there can ever be."""
        # The latter where an earlier one was killed.
        for left in (self.keys, self.work / "old"):
            shutil.rmtree(left, ignore_errors=True)
        self.keys.mkdir(parents=True)
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.keys / name], check=True)
        public = " ".join((self.keys / "host.pub").read_text().split()[:2])
        known = [*addresses(most), BASTION]
        self.known.write_text("".join(f"[{host}]:{self.port} {public}\n" for host in known))
        (self.keys / "sshd_config").write_text(SETTINGS.format(port=self.port, keys=self.keys))
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)

    def up(self, count):
        """Sees to it that so many listen."""
        new = [host for host in addresses(count) if host not in self.running]
        for host in new:
            self.running[host] = self.spawn(host, self.port)
        for host in new:
            self.wait_for(host, self.port)

    def only(self, count):
        """Sees to it that so many listen, and no others."""
        wanted = set(addresses(count))
        self.stop([host for host in self.running if host not in wanted])
        self.up(count)

    def add(self, host, settings):
        """One more, that no count has in it, with settings of its own."""
        self.running[host] = self.spawn(host, self.port, settings)
        self.wait_for(host, self.port)

    def spawn(self, host, port, settings=()):
        """One sshd. It dies with this process, however that ends."""
        box = self.box(host)
        for part in ("home", "lib/rollbook", "lib/data"):
            (box / part).mkdir(parents=True, exist_ok=True)
        options = [f"ListenAddress={host}:{port}", f"SetEnv=HOME={box}/home", *(settings or ["MaxStartups=1000"])]
        sshd = [SSHD, "-D", "-e", "-f", str(self.keys / "sshd_config")]
        sshd += [word for option in options for word in ("-o", option)]
        script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        apart = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        log = open(self.work / "sshd.log", "ab")
        return subprocess.Popen(
            [*apart, "sh", "-c", script, "host", str(box / "lib"), LIB, *sshd],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def wait_for(self, host, port):
        until = time.monotonic() + 60
        while True:
            if self.running[host].poll() is not None:
                raise SystemExit(f"sshd of {host} has ended: see {self.work}/sshd.log")
            try:
                return socket.create_connection((host, port), timeout=5).close()
            except OSError as error:
                if time.monotonic() > until:
                    raise SystemExit(f"sshd of {host} does not listen: {error}")
                time.sleep(0.02)

    def make_cold(self, count):
        """As before any work: one stale file. What the last one has made is moved away and not removed, and all is brought onto
        the disk: nobody is to pay for what another has left to the kernel, or for many inodes that have just become free."""
        for host in addresses(count):
            for folder in (self.tree(host), self.data(host)):
                if folder.exists() and any(folder.iterdir()):
                    self.moved += 1
                    (self.work / "old").mkdir(exist_ok=True)
                    folder.rename(self.work / "old" / str(self.moved))
                folder.mkdir(parents=True, exist_ok=True)
            (self.tree(host) / "stale.lock").write_text("stale\n")
        os.sync()

    def forget_agents(self, count):
        """As before any contact: nobody's agents, caches and journals."""
        for host in addresses(count):
            for part in ("home", "lib/rollbook"):
                for left in (self.box(host) / part).iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    def cpu(self):
        """Seconds of processor that all sessions which have ended took."""
        ticks = 0
        for child in self.running.values():
            fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(int(fields[at]) for at in (11, 12, 13, 14))
        return ticks / os.sysconf("SC_CLK_TCK")

    def settle(self):
        """Waits until no session is left, so that all of them are counted."""
        until = time.monotonic() + 10
        waiting = list(self.running.values())
        while waiting and time.monotonic() < until:
            waiting = [child for child in waiting if children(child.pid)]
            if waiting:
                time.sleep(0.02)

    def stop(self, hosts=None):
        """Ends these, or all, and waits for them."""
        ended = [self.running.pop(host) for host in list(self.running if hosts is None else hosts)]
        for child in ended:
            child.send_signal(signal.SIGTERM)
        for child in ended:
            child.wait()
        if hosts is None:
            shutil.rmtree(self.work / "old", ignore_errors=True)


def children(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
