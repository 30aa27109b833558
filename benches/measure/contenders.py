"""Who is compared, and how each is started."""
import dataclasses

from measure.hosts import addresses
from measure.runs import SYSTEM_FLOOR

CURVE = "KexAlgorithms=curve25519-sha256"


@dataclasses.dataclass
class Start:
    """A command line; what it reads; what is added to its environment."""
    arguments: list
    stdin: str = ""
    environment: dict = dataclasses.field(default_factory=dict)


class Contenders:
    """`command(name, state, count)`; a state is cold, unchanged or plan."""

    # Those that have no dry run.
    NO_PLAN = ("script", "system", "agent", "xargs")

    def __init__(self, work, hosts, programs, parallel, forks):
        self.work, self.hosts, self.parallel, self.forks = work, hosts, parallel, forks
        self.programs = programs
        self.folder = hosts.work
        venv = self.folder / "venv"
        self.known = {"rollbook": self.rollbook, "script": self.script, "agent": self.agent, "xargs": self.xargs}
        self.known |= {"system": self.system} if SYSTEM_FLOOR in programs else {}
        peers = {"ansible": self.ansible, "mitogen": self.mitogen, "pyinfra": self.pyinfra}
        self.peers = [name for name in peers if (venv / name / "bin").exists()]
        self.known |= {name: peers[name] for name in self.peers}

    def must_have(self, peers):
        missing = [name for name in peers if name not in self.known]
        if missing:
            raise SystemExit(f"not installed: {', '.join(missing)}; benches/run --setup installs them")

    def command(self, name, state, count):
        return self.known[name](state, count)

    def rollbook(self, state, count, runbook="standard.yml", inventory=None, *more, store=None):
        """Promises on, record on."""
        verb = ["plan"] if state == "plan" else ["apply", "--yes"]
        return Start([
            str(self.programs["rollbook"]), *verb, str(self.work.given / runbook),
            "-i", str(inventory or self.work.inventory(count)), "--store", str(store or self.folder / "record.db"),
            *(["--forks", str(self.forks)] if self.forks else []), *more,
        ])

    def plain(self, arguments):
        """Ours, without hosts."""
        return Start([str(self.programs["rollbook"]), *arguments, "--store", str(self.folder / "record.db")])

    def script(self, _state, count):
        return self.floor("scripts", "sh -s", count)

    def system(self, _state, count):
        return self.floor("scripts", "sh -s", count, SYSTEM_FLOOR)

    def agent(self, _state, count):
        return self.floor("plans", str(self.programs["floor-agent"]), count)

    def floor(self, folder, command, count, program="floor-ssh2"):
        """A thread each for so many at once."""
        threads = str(min(self.parallel, count))
        floor = [str(self.programs[program]), str(self.hosts.key), str(self.hosts.port), threads]
        return Start([*floor, str(self.work.given / folder), command], listed(count))

    def xargs(self, _state, count):
        """The system's ssh, with the cheap key exchange."""
        ssh = ["ssh", *self.hosts.ssh(CURVE), "-p", str(self.hosts.port)]
        words = " ".join(ssh)
        one = f"exec {words} root@{{}} sh -s <{self.work.given}/scripts/{{}}"
        return self.each(["xargs", "-P", str(self.parallel), "-I{}", "sh", "-c", one], count)

    def each(self, arguments, count):
        """Something that reads the hosts' addresses."""
        return Start(arguments, listed(count))

    def ansible(self, state, count, venv="ansible", **environment):
        ssh = f"-F none -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={self.hosts.known} -o LogLevel=ERROR"
        environment |= {
            "ANSIBLE_CONFIG": str(self.work.given / "ansible.cfg"), "ANSIBLE_SSH_ARGS": ssh,
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"), "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
        }
        program = str(self.folder / "venv" / venv / "bin/ansible-playbook")
        check = ["--check"] if state == "plan" else []
        inventory = str(self.work.ansible_inventory(count))
        forks = str(min(25, count))
        return Start([program, "-f", forks, "-i", inventory, str(self.work.given / "ansible.yml"), *check], "", environment)

    def mitogen(self, state, count):
        site = next((self.folder / "venv/mitogen/lib").glob("python3*/site-packages/ansible_mitogen/plugins/strategy"))
        more = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(site)}
        return self.ansible(state, count, "mitogen", **more)

    def pyinfra(self, state, count):
        program = str(self.folder / "venv/pyinfra/bin/pyinfra")
        dry = ["--dry"] if state == "plan" else []
        inventory, deploy = self.work.pyinfra_inventory(count), self.work.given / "pyinfra_standard.py"
        return Start([program, "-y", "--parallel", str(min(25, count)), str(inventory), str(deploy), *dry])

    def after(self, name):
        """Ends what outlives a run: the ssh masters of Ansible."""
        masters = self.folder / "cp"
        if name in ("ansible", "mitogen") and masters.exists():
            return [["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "any"] for socket in masters.iterdir()]
        return []


def listed(count):
    return "".join(f"{host}\n" for host in addresses(count))

