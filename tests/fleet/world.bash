# The world: one set of namespaces in one cgroup that holds everything of a fleet. To remove a fleet is to kill that
# cgroup: its mounts, links and networks go with it, and no process has to be hunted.
#
# Inside, cgroup2 is mounted alone, so that LXC and systemd see pure v2 on a machine that has v1 as well; the hosts'
# disks are on a tmpfs; and the network has no way out, so that no packet of a test can leave.

INSIDE=/run/fleet # state within the world
NETWORK=10.77     # the bridge is NETWORK.0.1/16, hosts are NETWORK.<subnet of the kind>.<number>
HIDDEN=10.78      # the network behind the bastions

with_lock() {
  mkdir -p -m 700 "$FLEET_HOME/run"
  mkdir -p "$RUN"
  exec 9>"$RUN/lock"
  flock -w 300 9 || die "another command has held $RUN/lock for five minutes"
  "$@"
  exec 9>&-
}

cgroup_root() {
  awk '$3 == "cgroup2" { print $2; found = 1; exit } END { exit !found }' /proc/mounts ||
    die "this machine has no cgroup2 mounted"
}
cgroup() { echo "$(cgroup_root)/rollbook-fleet-$FLEET_ID"; }

# The process id of the world's PID 1; fails where no fleet is up.
world_pid() {
  local pid
  pid=$(cat "$RUN/world.pid" 2>/dev/null) && [ -r "/proc/$pid/cmdline" ] &&
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q "_world $FLEET_ID " && echo "$pid"
}
world_net() {
  local pid
  pid=$(world_pid) || die "no fleet $FLEET_ID is up"
  echo "/proc/$pid/ns/net"
}
in_world() {
  local pid
  pid=$(world_pid) || die "no fleet $FLEET_ID is up"
  nsenter -t "$pid" -m -n -p -u -i -C -- "$SELF" "$@" 9>&-
}

world_start() {
  world_pid >/dev/null && return
  local leaf shell pid='' waited
  leaf=$(cgroup)
  remove_cgroup "$leaf" # a fleet that was killed half-way
  mkdir -p "$leaf"
  rm -f "$RUN/ready"
  [ -e "$RUN/id" ] || ssh-keygen -q -t ed25519 -N '' -C "fleet-$FLEET_ID" -f "$RUN/id"
  setsid bash -c 'echo $$ >"$0/cgroup.procs"; exec unshare --cgroup --mount --net --pid --uts --ipc \
    --propagation private --fork --kill-child --mount-proc -- "$@"' \
    "$leaf" "$SELF" _world "$FLEET_ID" "" </dev/null >"$RUN/world.log" 2>&1 9>&- &
  shell=$!
  for waited in $(seq 1200); do
    pid=$(cat "/proc/$shell/task/$shell/children" 2>/dev/null || true)
    [ -n "$pid" ] && [ -e "$RUN/ready" ] && break
    sleep 0.05
  done
  [ -e "$RUN/ready" ] || die "the world did not start: $(cat "$RUN/world.log")"
  echo "${pid% }" >"$RUN/world.pid"
}

_world() { # PID 1 of the world
  umount -R /sys
  mount -t sysfs sysfs /sys
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir /sys/fs/cgroup/ctl
  echo 1 >/sys/fs/cgroup/ctl/cgroup.procs
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p $INSIDE/{hosts,lxc} /run/lock /var/lib/lxc
  mount -t tmpfs tmpfs /var/lib/lxc
  hostname "fleet-$1"
  ip link set lo up
  # An address of its own. A bridge takes the lowest of its ports otherwise, which changes as hosts come and go: those that
  # know the old one were deaf to all until they asked again, up to a minute later.
  ip link add br0 address 02:77:00:00:00:01 type bridge
  ip addr add $NETWORK.0.1/16 dev br0
  ip link set br0 up
  # The last words of a program that has ended are sent anew until a cable is back, and not for some seconds only.
  echo 16 >/proc/sys/net/ipv4/tcp_orphan_retries
  ip link add br1 type bridge # behind the bastions: the world itself has no address there
  ip link set br1 up
  trap 'exit 0' TERM
  touch "$RUN/ready"
  while :; do
    sleep 86400 &
    wait $! || true
  done
}

# Takes the fleet down when a process ends. The watcher lives in the fleet's cgroup, and so ends with it.
watch_owner() { # PID
  local leaf home
  kill -0 "$1" 2>/dev/null || die "there is no process $1 to own the fleet"
  ! kill -0 "$(cat "$RUN/owner.$1" 2>/dev/null || echo x)" 2>/dev/null || return 0
  leaf=$(cgroup)
  mkdir -p "$leaf/owner"
  home=$(cgroup_root)$(sed -n 's/^0:://p' /proc/self/cgroup)
  setsid bash -c 'echo $$ >"$0/cgroup.procs"; tail --pid="$1" --sleep-interval=0.2 -f /dev/null
    echo $$ >"$2/cgroup.procs"; exec "$3" down' "$leaf/owner" "$1" "$home" "$SELF" </dev/null >/dev/null 2>&1 9>&- &
  echo $! >"$RUN/owner.$1"
}

remove_cgroup() {
  local waited
  [ -d "$1" ] || return 0
  echo 1 >"$1/cgroup.kill"
  for waited in $(seq 2400); do
    grep -q 'populated 0' "$1/cgroup.events" && break
    sleep 0.05
  done
  find "$1" -depth -type d -exec rmdir {} +
}

down() {
  with_lock remove_cgroup "$(cgroup)"
  rm -rf "$RUN"
  rmdir "$FLEET_HOME/run" 2>/dev/null || true
}
