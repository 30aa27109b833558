# The life of hosts. What begins with an underscore runs inside the world.
#
# A host's disk is its kind's base with a layer of its own over it. Its keys are made before it boots, so that
# known_hosts is exact and checking is strict from the first connection.

_address() { # NAME KIND
  local number=${1##*[a-z]} net=$NETWORK
  [ "$2" != inner ] || net=$HIDDEN
  echo "$net.$((SUBNET[$2] + (number - 1) / 250)).$(((number - 1) % 250 + 1))"
}

_state() { lxc-info -P $INSIDE/lxc -n "$1" -sH 2>/dev/null || echo STOPPED; }

_up() { # KIND BASE NAME...
  local kind=$1 base=$2 name running=0 failed=0
  shift 2
  for name in "$@"; do
    _boot "$name" "$kind" "$base" &
    running=$((running + 1))
    if [ $running -ge 4 ]; then wait -n || failed=1; running=$((running - 1)); fi
  done
  while [ $running -gt 0 ]; do wait -n || failed=1; running=$((running - 1)); done
  [ $failed = 0 ] || die "not every host started"
  _wait_for "$@"
}

_boot() { # NAME KIND BASE
  local name=$1 kind=$2 base=$3 dir=$INSIDE/hosts/$1 address mac
  address=$(_address "$name" "$kind")
  # shellcheck disable=SC2086
  mac=$(printf '02:77:%02x:%02x:%02x:%02x' ${address//./ })
  if [ ! -e "$dir/dressed" ]; then
    ! mountpoint -q "$dir/root" || _erase "$name" # left half-way
    mkdir -p "$dir"/{upper,work,root,sysctl} "$INSIDE/lxc/$name"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
    _dress "$name" "$kind"
    [ "$kind" != hardened ] || _harden "$dir/root"
    touch "$dir/dressed"
  fi
  echo "$kind $address $base" >"$dir/meta"
  _config "$name" "$kind" "$address" "$mac" >"$INSIDE/lxc/$name/config"
  if [ "$(_state "$name")" = STOPPED ]; then
    rm -f "$dir/greeted"
    lxc-start -P $INSIDE/lxc -n "$name" -o "$INSIDE/lxc/$name/log" -l WARN </dev/null >/dev/null 2>&1 ||
      die "$name did not start: $(tail -n 5 "$INSIDE/lxc/$name/log")"
    [ -z "${FLEET_LOG:-}" ] || echo "$FLEET_ID $name $kind" >>"$FLEET_LOG"
  fi
  # No ARP: then a host that is cut off is silent, and not "no route to host".
  [ "$kind" = inner ] || ip neigh replace "$address" lladdr "$mac" dev br0 nud permanent
}

_config() { # NAME KIND ADDRESS MAC
  local name=$1 kind=$2 address=$3 mac=$4 dir=$INSIDE/hosts/$1 link=br0 key
  [ "$kind" != inner ] || link=br1
  cat <<CONF
lxc.uts.name = $name
lxc.rootfs.path = dir:$dir/root
lxc.init.cmd = ${INIT[$kind]:-/sbin/init}
lxc.net.0.type = veth
lxc.net.0.link = $link
lxc.net.0.veth.pair = $name
lxc.net.0.name = eth0
lxc.net.0.hwaddr = $mac
lxc.net.0.flags = up
lxc.net.0.ipv4.address = $address/16
lxc.mount.auto = proc:mixed sys:ro cgroup:rw:force
lxc.mount.entry = tmpfs run tmpfs rw,nosuid,nodev,mode=755 0 0
lxc.mount.entry = $REPO srv/repo none bind,ro 0 0
lxc.autodev = 1
lxc.apparmor.profile = unconfined
lxc.tty.max = 0
lxc.pty.max = 512
lxc.cap.drop = sys_time sys_module sys_rawio mknod syslog mac_admin mac_override
lxc.signal.halt = SIGPWR
lxc.time.offset.boot = -$(cut -d. -f1 /proc/uptime)s
CONF
  case $kind in
    bastion) printf 'lxc.net.1.%s\n' 'type = veth' 'link = br1' "veth.pair = ${name}b" 'name = eth1' 'flags = up' \
      "ipv4.address = $HIDDEN.${address#"$NETWORK".}/16" ;;
    hardened) printf 'lxc.mount.entry = %s 0 0\n' 'tmpfs tmp tmpfs rw,nosuid,nodev,noexec,mode=1777' \
      "$dir/root/home home none bind,rw,nosuid,nodev,noexec" ;;
  esac
  # Settings of the whole machine's kernel: each host gets files of its own in their place.
  for key in vm/swappiness vm/overcommit_memory vm/max_map_count fs/file-max kernel/panic; do
    [ -e "/proc/sys/$key" ] || continue
    [ -e "$dir/sysctl/${key//\//.}" ] || cat "/proc/sys/$key" >"$dir/sysctl/${key//\//.}"
    echo "lxc.mount.entry = $dir/sysctl/${key//\//.} proc/sys/$key none bind 0 0"
  done
}

# Gives a fresh disk its host's own identity.
_dress() { # NAME KIND
  local name=$1 kind=$2 dir=$INSIDE/hosts/$1 root=$INSIDE/hosts/$1/root home
  umask 022
  echo "$name" >"$root/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
  if [ "$kind" = busybox ]; then
    [ -e "$dir/key" ] ||
      dropbearkey -t ed25519 -f "$dir/key" 2>/dev/null | grep '^ssh-ed25519' >"$dir/hostkey.pub"
    install -m 600 "$dir/key" "$root/etc/dropbear/key"
  else
    if [ ! -e "$dir/key" ]; then
      ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$dir/key"
      mv "$dir/key.pub" "$dir/hostkey.pub"
    fi
    install -m 600 "$dir/key" "$root/etc/ssh/ssh_host_ed25519_key"
  fi
  for home in /root /home/deploy /home/ops; do
    [ -d "$root$home" ] || continue
    mkdir -p -m 700 "$root$home/.ssh"
    cp "$RUN/id.pub" "$root$home/.ssh/authorized_keys"
    chown -R --reference="$root$home" "$root$home/.ssh"
  done
}

# Settings that a careful or unlucky administrator may have made. lxc's part of it is in _config.
_harden() { # ROOT
  local root=$1
  mkdir -p "$root/etc/systemd/logind.conf.d"
  printf '[Login]\nKillUserProcesses=yes\n' >"$root/etc/systemd/logind.conf.d/hardened.conf"
  printf 'PermitRootLogin no\nBanner /etc/issue.net\n' >"$root/etc/ssh/sshd_config.d/hardened.conf"
  rm "$root/etc/sudoers.d/deploy"
  printf 'AUTHORISED USE ONLY, reminder %d: all that you do here is watched.\n' {1..100} >"$root/etc/issue.net"
  printf '%s\n' 'echo "Welcome to $(hostname)"' 'echo "a profile that also complains" >&2' | cat - "$root/etc/bash.bashrc" >"$root/etc/new"
  mv "$root/etc/new" "$root/etc/bash.bashrc"
  echo 'echo "and a login profile"' >"$root/etc/profile.d/welcome.sh"
}

_wait_for() { # NAME...: until each has said its ssh banner since it was booted or healed
  local name kind address base through
  for name in "$@"; do
    [ ! -e "$INSIDE/hosts/$name/greeted" ] || continue
    read -r kind address base <"$INSIDE/hosts/$name/meta"
    through=()
    [ "$kind" != inner ] || through=(nsenter -t "$(lxc-info -P $INSIDE/lxc -n bastion1 -pH)" -n)
    "${through[@]}" timeout 120 bash -c 'until { exec 3<>"/dev/tcp/$0/22" && IFS= read -r -t 2 -u 3 line &&
      [[ $line == [A-Z]* ]]; } 2>/dev/null; do sleep 0.05; done' "$address" || die "$name says no ssh banner"
    touch "$INSIDE/hosts/$name/greeted"
  done
}

_stop() { lxc-stop -P $INSIDE/lxc -n "$1" -k 2>/dev/null || true; }

_erase() { # NAME
  local dir=$INSIDE/hosts/$1
  ! mountpoint -q "$dir/root" || umount "$dir/root"
  rm -rf "${dir:?}"/{dressed,upper,work,root,sysctl}
}

_host() { # DEED NAME
  local deed=$1 name=$2 kind address base dir=$INSIDE/hosts/$2
  [[ $name =~ ^[a-z]+[0-9]+$ && -d $dir ]] || die "there is no host $name"
  read -r kind address base <"$dir/meta"
  case $deed in
    cut) ip link set "$name" down ;;
    heal) ip link set "$name" up && rm -f "$dir/greeted" && _wait_for "$name" ;;
    freeze) lxc-freeze -P $INSIDE/lxc -n "$name" ;;
    thaw) lxc-unfreeze -P $INSIDE/lxc -n "$name" && rm -f "$dir/greeted" && _wait_for "$name" ;;
    reset) _stop "$name" && _boot "$name" "$kind" "$base" && _wait_for "$name" ;;
    wipe) _stop "$name" && _erase "$name" && _boot "$name" "$kind" "$base" && _wait_for "$name" ;;
    rekey) rm -f "$dir/key" && _host wipe "$name" ;;
    rm)
      _stop "$name"
      _erase "$name"
      ip neigh del "$address" dev br0 2>/dev/null || true
      rm -rf "${dir:?}" "$INSIDE/lxc/$name"
      ;;
  esac
}

_console() { # NAME COMMAND...
  local name=${1:?which host}
  shift
  exec lxc-attach -P $INSIDE/lxc -n "$name" --clear-env -v PATH=/usr/sbin:/usr/bin:/sbin:/bin -v HOME=/root -- "$@"
}

# Read out here: a host's own clock begins anew at each boot, so that all of them would begin in its first second.
_boot_time() { # NAME
  local pid
  pid=$(lxc-info -P $INSIDE/lxc -n "$1" -pH)
  cut -d ' ' -f 22 "/proc/$pid/stat"
}

_list() {
  local dir name kind address base
  for dir in $(find $INSIDE/hosts -mindepth 2 -maxdepth 2 -name meta -printf '%h\n' | sort -V); do
    name=${dir##*/}
    read -r kind address base <"$dir/meta"
    echo "$name $kind $address $(_state "$name") $(cut -d' ' -f1,2 "$dir/hostkey.pub")"
  done
}

# Hosts with systemd take up to ten inotify instances each, of which a user has only so many on a whole machine.
check_room() { # KIND NAME...
  local kind=$1 max used new=0 name
  shift
  [ -z "${INIT[$kind]:-}" ] && [[ $kind != busybox && $kind != sysvinit ]] || return 0
  for name in "$@"; do grep -qs "^$name " <(in_world _list) || new=$((new + 1)); done
  [ $new -gt 0 ] || return 0
  max=$(cat /proc/sys/fs/inotify/max_user_instances)
  used=$(find /proc/[0-9]*/fd -lname 'anon_inode:inotify' 2>/dev/null | wc -l || true) # processes end while find looks
  [ $((used + 10 * new)) -le "$max" ] ||
    die "no room for $new more hosts with systemd: $used of $max inotify instances are taken, and each takes up to 10"
}

# Writes known_hosts, ssh_config and inventory.json, and prints the latter. Each file is replaced in one go: other
# tests read them all the time.
inventory() {
  with_lock write_inventory
  cat "$RUN/inventory.json"
}

replace() { # FILE: with what is said on standard input
  cat >"$1.new" && mv "$1.new" "$1"
}

write_inventory() {
  local hosts
  hosts=$(in_world _list)
  awk '{ print $3, $5, $6 }' <<<"$hosts" | replace "$RUN/known_hosts"
  awk -v run="$RUN" '{
    print "Host " $1 "\n  HostName " $3
    if ($2 == "inner") print "  ProxyJump bastion1"
    print "  User root\n  IdentityFile " run "/id\n  UserKnownHostsFile " run "/known_hosts\n  IdentitiesOnly yes\n  BatchMode yes"
  }' <<<"$hosts" | replace "$RUN/ssh_config"
  awk -v run="$RUN" -v world="$(world_pid)" '
    BEGIN {
      print "{\"key\":\"" run "/id\",\"known_hosts\":\"" run "/known_hosts\",\"ssh_config\":\"" run "/ssh_config\","
      printf "\"netns\":\"/proc/%s/ns/net\",\"hosts\":[", world
    }
    NF {
      printf "%s\n {\"name\":\"%s\",\"kind\":\"%s\",\"address\":\"%s\",\"state\":\"%s\",\"host_key\":\"%s %s\",", comma, $1, $2, $3, $4, $5, $6
      printf "\"root\":\"/proc/%s/root/run/fleet/hosts/%s/root\"}", world, $1
      comma = ","
    }
    END { print "\n]}" }' <<<"$hosts" | replace "$RUN/inventory.json"
}
