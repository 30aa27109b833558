"""The standard work for pyinfra: the same 30 steps."""
from pyinfra import host
from pyinfra.operations import files, server

data = host.data
top = f"{data.root}/{host.name}"
variables = {name: data.get(name) for name in ("app_name", "backends", "role", "region", "memory_mb", "host_id")}

for path, mode in (("etc", "755"), ("etc/conf.d", "750"), ("bin", "755"), ("data", "700"), ("log", "775")):
    files.directory(name=path, path=f"{top}/{path}", mode=mode)
for n in range(1, 11):
    files.template(
        name=f"template {n}", src=f"{data.given}/app.conf.j2", dest=f"{top}/etc/conf.d/app-{n}.conf", mode="644",
        create_remote_dir=False, n=n, hostname=host.name, **variables,
    )
for n in range(1, 6):
    line = f"key_{n} = {host.name}-{n}"
    files.line(name=f"line {n}", path=f"{top}/etc/settings.ini", line=f"^key_{n} =.*", replace=line)
for n in range(1, 4):
    static, blob = f"{data.given}/files/static.txt", f"{top}/data/blob-{n}"
    files.put(name=f"copy {n}", src=static, dest=blob, mode="600", create_remote_dir=False)
for path, to in (("etc/current", "conf.d/app-1.conf"), ("bin/blob", "../data/blob-1")):
    files.link(name=path, path=f"{top}/{path}", target=to, create_remote_dir=False)
for n in range(1, 4):
    marker = f"{top}/data/marker-{n}"
    server.shell(name=f"command {n}", commands=[f"[ -e {marker} ] || echo done > {marker}"])
files.file(name="mode", path=f"{top}/data/marker-1", mode="600")
files.file(name="removal", path=f"{top}/stale.lock", present=False)
