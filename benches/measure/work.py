"""The standard work and the inventories, for each of those who are compared."""
import hashlib
import json
import os
import pathlib
import shutil

from measure.hosts import addresses

HERE = pathlib.Path(__file__).resolve().parent.parent / "work"
SHARED = {
    "app_name": "rollcall",
    "backends": [{"name": f"be{n:02}", "ip": f"10.1.{n}.{n * 3}", "weight": n % 4 + 1} for n in range(1, 13)],
}
DIRECTORIES = [("etc", "0755"), ("etc/conf.d", "0750"), ("bin", "0755"), ("data", "0700"), ("log", "0775")]
LINKS = [("etc/current", "conf.d/app-1.conf"), ("bin/blob", "../data/blob-1")]
STATIC = "".join(f"{n:07x} {'a line of the file that is copied '.ljust(55, '.')}\n" for n in range(1024))

# What a careful administrator writes: look first, change then, replace files whole.
FUNCTIONS = """\
set -eu
changed=0 new=.new.$$
put() { cat >$new; if cmp -s $new "$2"; then rm -f $new; else chmod $1 $new; mv $new "$2"; changed=$((changed+1)); fi; }
directory() { [ -d "$2" ] || { mkdir -m $1 "$2"; changed=$((changed+1)); }; }
line() {
  grep -qxF "$2" $3 2>/dev/null && return
  changed=$((changed+1))
  if grep -q "$1" $3 2>/dev/null; then sed -i "s|$1.*|$2|" $3; else echo "$2" >>$3; fi
}
"""


def variables(number):
    return {
        "host_id": number,
        "role": ("web", "db", "cache")[number % 3],
        "region": ("eu", "us")[number % 2],
        "memory_mb": 1024 + 64 * number,
    }


def rendered(host, number, n):
    """app.conf.j2, without a template engine."""
    of = variables(number)
    app, role, region = SHARED["app_name"], of["role"], of["region"]
    backends = "".join(
        f"{b['name']} = {b['ip']}:{9000 + at} weight={b['weight']} role={role}\n"
        for at, b in enumerate(SHARED["backends"], 1)
    )
    return (
        f"# {app} {n} on {host}: managed, do not edit\n[instance]\nname = {app}-{n}\nhost = {host}\nid = {number}\n"
        f"role = {role}\nregion = {region}\nfqdn = {app}-{n}.{role}.{region}.example.net\nlisten = 0.0.0.0:{8000 + n}\n"
        f"workers = {4 if role == 'web' else 2}\nmemory_mb = {of['memory_mb']}\ncache_mb = {of['memory_mb'] // 4}\n"
        f"[log]\nlevel = {'info' if region == 'eu' else 'warning'}\npath = /var/log/{app}/{n}.log\nrotate = daily\n"
        f"keep = 14\n[tls]\nenabled = true\ncertificate = /etc/ssl/{region}/{host}.pem\n"
        f"key = /etc/ssl/{region}/{host}.key\nversions = 1.2 1.3\n[limits]\nopen_files = 65536\n"
        f"connections = {100 * n}\nrequest_kb = 512\ntimeout_s = 30\n[backends]\ncount = {len(SHARED['backends'])}\n"
        f"{backends}[end]\nof = {host}/{n}\n"
    )


def script(host, number, top):
    out = [FUNCTIONS + f"cd {top}"]
    out += [f"directory {mode} {path}" for path, mode in DIRECTORIES]
    out += [f"put 0644 etc/conf.d/app-{n}.conf <<'END'\n{rendered(host, number, n)}END" for n in range(1, 11)]
    out += [f"line '^key_{n} =' 'key_{n} = {host}-{n}' etc/settings.ini" for n in range(1, 6)]
    out += [f"put 0600 data/blob-{n} <<'END'\n{STATIC}END" for n in range(1, 4)]
    out += [f'[ "$(readlink {path})" = {to} ] || {{ ln -sfn {to} {path}; changed=$((changed+1)); }}' for path, to in LINKS]
    out += [f"[ -e data/marker-{n} ] || {{ echo done >data/marker-{n}; changed=$((changed+1)); }}" for n in range(1, 4)]
    out.append('[ "$(stat -c %a data/marker-1)" = 600 ] || { chmod 0600 data/marker-1; changed=$((changed+1)); }')
    out.append("[ ! -e stale.lock ] || { rm stale.lock; changed=$((changed+1)); }\necho changed=$changed")
    return "\n".join(out) + "\n"


def one_template(host, number, top):
    """The script of one-template.yml."""
    return FUNCTIONS + f"cd {top}\nput 0644 app.conf <<'END'\n{rendered(host, number, 1)}END\n"


def plan(host, number, top):
    """For the bare agent: see floor/agent.rs."""
    out = [f"at 0 {top}\t\n"] + [f"directory {mode} {path}\t\n" for path, mode in DIRECTORIES]
    for n in range(1, 11):
        text = rendered(host, number, n)
        out.append(f"put 0644 etc/conf.d/app-{n}.conf\t{len(text)}\n{text}")
    out += [f"line 0644 etc/settings.ini\tkey_{n} = {host}-{n}\n" for n in range(1, 6)]
    out += [f"put 0600 data/blob-{n}\t{len(STATIC)}\n{STATIC}" for n in range(1, 4)]
    out += [f"link 0 {path}\t{to}\n" for path, to in LINKS]
    out += [f"command 0 data/marker-{n}\techo done > data/marker-{n}\n" for n in range(1, 4)]
    return "".join(out) + "mode 0600 data/marker-1\t\nremove 0 stale.lock\t\n"


class Work:
    """Writes what is run to a folder, and knows the digest that must come out."""

    def __init__(self, hosts):
        self.hosts = hosts
        self.given = hosts.work / "given"

    def prepare(self, most):
        shutil.rmtree(self.given, ignore_errors=True)
        shutil.copytree(HERE, self.given)
        (self.given / "files").mkdir()
        (self.given / "files/static.txt").write_text(STATIC)
        inputs = {"scripts": script, "plans": plan, "one-template": one_template, "nothing": lambda *_: ""}
        for kind, write in inputs.items():
            (self.given / kind).mkdir()
            for number, host in enumerate(addresses(most), 1):
                (self.given / kind / host).write_text(write(host, number, self.hosts.tree(host)))

    def inventory(self, count, name=None, **connection):
        """An inventory of ours. JSON is YAML."""
        file = self.given / f"{name or 'hosts'}-{count}.yml"
        if not file.exists():
            reached = {"user": "root", "port": self.hosts.port, "key_file": str(self.hosts.key)}
            reached |= {"known_hosts": str(self.hosts.known)} | connection
            shared = SHARED | {"root": str(self.hosts.work / "hosts"), "hostname": "{{ host.name }}"}
            each = {host: variables(number) for number, host in enumerate(addresses(count), 1)}
            file.write_text(json.dumps({"all": {"vars": reached | shared, "hosts": each}}, indent=1))
        return file

    def ansible_inventory(self, count):
        file = self.given / f"ansible-{count}.yml"
        shared = SHARED | {
            "root": str(self.hosts.work / "hosts"), "hostname": "{{ inventory_hostname }}", "ansible_user": "root",
            "ansible_port": self.hosts.port, "ansible_ssh_private_key_file": str(self.hosts.key),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        each = {host: variables(number) for number, host in enumerate(addresses(count), 1)}
        file.write_text(json.dumps({"all": {"vars": shared, "hosts": each}}))
        return file

    def pyinfra_inventory(self, count):
        file = self.given / f"pyinfra_{count}.py"
        shared = SHARED | {
            "root": str(self.hosts.work / "hosts"), "given": str(self.given), "ssh_user": "root",
            "ssh_port": self.hosts.port, "ssh_key": str(self.hosts.key), "ssh_known_hosts_file": str(self.hosts.known),
            "ssh_allow_agent": False, "ssh_look_for_keys": False,
        }
        each = [(host, shared | variables(number)) for number, host in enumerate(addresses(count), 1)]
        file.write_text(f"hosts = {each!r}\n")
        return file

    def digest(self, count):
        """Of all that the work has made: names, kinds, modes, link targets, contents."""
        whole = hashlib.sha256()
        for host in addresses(count):
            top = self.hosts.tree(host)
            for path in sorted(top.rglob("*")):
                found = path.lstat()
                mode = "" if path.is_symlink() else oct(found.st_mode)
                body = os.readlink(path).encode() if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
                whole.update(f"{path.relative_to(top)}\0{mode}\0{len(body)}\0".encode() + body)
        return whole.hexdigest()[:16]
