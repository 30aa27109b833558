# Root file systems that hosts boot from. Each is cached under a name that holds its recipe's hash: a changed recipe
# is another base, and a base that is there is whole.

COMMON=apt,openssh-server,cron,iproute2,iputils-ping,nftables,procps,sudo,ca-certificates,kmod,acl,attr,curl
SYSTEMD=systemd,systemd-sysv,dbus,libpam-systemd

# suite NAME: which release a base is of. Ubuntu has no sysvinit: those hosts are of one Debian everywhere.
suite() {
  if [ "$1" = sysvinit ]; then echo bookworm
  else echo "${FLEET_SUITE:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}"; fi
}

base_packages() {
  case $1 in
    debian) echo $SYSTEMD,$COMMON ;;
    sysvinit) echo sysvinit-core,$COMMON ;;
    dnf) echo $SYSTEMD,$COMMON,dnf,rpm,createrepo-c ;;
    zypper) echo $SYSTEMD,$COMMON,zypper,rpm ;;
    pacman) echo $SYSTEMD,$COMMON,pacman-package-manager,libarchive-tools,zstd ;;
    busybox) echo busybox-static,dropbear-bin ;;
  esac
}

base_dir() {
  local recipe
  recipe=$({ base_packages "$1"; declare -f build_debian build_busybox disguise; cat "$HERE/light-init"; } | sha256sum)
  echo "$FLEET_HOME/bases/$1-$(suite "$1")-${recipe:0:12}"
}

# base NAME: builds it where it is missing; prints its directory.
base() {
  local dir new
  dir=$(base_dir "$1")
  if [ ! -d "$dir" ]; then
    mkdir -p "$FLEET_HOME/bases"
    exec 8>"$FLEET_HOME/bases/lock"
    flock 8
    if [ ! -d "$dir" ]; then
      new=$dir.new
      rm -rf "$new"
      echo "fleet: building the base $1" >&2
      if [ "$1" = busybox ]; then build_busybox "$new"; else build_debian "$new" "$1"; fi >&2 8>&-
      chmod 755 "$new"
      mv "$new" "$dir"
      forget_old_bases
    fi
    exec 8>&-
  fi
  touch "$dir.used"
  echo "$dir"
}

# Bases of recipes that nobody has used for a fortnight.
forget_old_bases() {
  local used
  find "$FLEET_HOME/bases" -maxdepth 1 -name '*.used' -mtime +14 | while read -r used; do
    rm -rf "${used%.used}" "$used"
  done
}

# apt_knows WHAT SUITE: what this machine's own apt knows of a suite: SITE, COMPONENT.
apt_knows() { apt-get indextargets --format "\$($1)" 'Created-By: Packages' "Codename: $2" | sort -u; }

build_debian() { # DIR NAME
  local dir=$1 suite from components
  suite=$(suite "$2")
  from=$(apt_knows SITE "$suite" | head -n 1)
  components=$(apt_knows COMPONENT "$suite" | paste -sd,)
  if [ -z "$from" ] && [ "$2" = sysvinit ]; then from=http://deb.debian.org/debian components=main; fi
  [ -n "$from" ] || die "apt knows no mirror of $suite: run apt-get update, or set FLEET_SUITE"
  mmdebstrap --quiet --variant=minbase --mode=root --include="$(base_packages "$2")" \
    --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --components="$components" "$suite" "$dir" "$from"
  : >"$dir/etc/machine-id"
  rm -f "$dir"/etc/ssh/ssh_host_* "$dir"/etc/apt/sources.list "$dir"/etc/hostname
  echo 'deb [trusted=yes] file:///srv/repo/deb ./' >"$dir/etc/apt/sources.list.d/fleet.list"
  mkdir -p "$dir/srv/repo"
  # deploy needs no password for sudo, ops does.
  chroot "$dir" sh -ec 'useradd -m -s /bin/bash deploy; useradd -m -s /bin/bash -G sudo ops; echo ops:ops | chpasswd
    umask 227; echo "deploy ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/deploy'
  [ ! -e "$dir/etc/inittab" ] || sed -i '/getty/d' "$dir/etc/inittab"
  install -m 755 "$HERE/light-init" "$dir/sbin/light-init"
  disguise "$dir" "$2"
}

# A look-alike of another family: its real package manager and its own os-release on Debian's userland, without apt.
disguise() { # DIR NAME
  local dir=$1 id
  case $2 in
    dnf) id=fedora ;;
    zypper) id=opensuse-leap ;;
    pacman) id=arch ;;
    *) return 0 ;;
  esac
  printf 'ID=%s\nNAME="%s look-alike"\nPRETTY_NAME="%s look-alike"\nVERSION_ID=1\n' $id $id $id >"$dir/etc/os-release"
  rm -f "$dir/etc/debian_version" "$dir"/usr/bin/apt* "$dir"/usr/bin/dpkg*
  mkdir -p "$dir"/etc/{rpm,yum.repos.d,zypp/repos.d} "$dir/var/lib/rpm"
  rm -rf "$dir"/etc/zypp/systemCheck* # zypper would miss a package of the name of glibc
  echo '%_dbpath /var/lib/rpm' >"$dir/etc/rpm/macros" # Debian's rpm would use ~/.rpmdb
  printf '[fleet]\nname=fleet\nbaseurl=file:///srv/repo/rpm\nenabled=1\ngpgcheck=0\n' |
    tee "$dir/etc/yum.repos.d/fleet.repo" >"$dir/etc/zypp/repos.d/fleet.repo"
  printf '[options]\nArchitecture = auto\nSigLevel = Never\n[fleet]\nServer = file:///srv/repo/arch\n' >"$dir/etc/pacman.conf"
}

# Static busybox. dropbear runs with a loader and libraries of its own under /opt/sshd, so that nothing is where
# programs look for a libc.
build_busybox() { # DIR
  local dir=$1 applet library
  mkdir -p "$dir"/{bin,sbin,usr/bin,usr/sbin,etc/dropbear,root,tmp,proc,sys,dev/pts,run,var/log,var/tmp,opt/sshd,home,mnt,srv/repo}
  chmod 1777 "$dir/tmp" "$dir/var/tmp"
  chmod 700 "$dir/root"
  cp /bin/busybox "$dir/bin/busybox"
  for applet in $("$dir/bin/busybox" --list-full); do
    mkdir -p "$dir/${applet%/*}"
    [ -e "$dir/$applet" ] || ln -s /bin/busybox "$dir/$applet"
  done
  cp /usr/sbin/dropbear "$dir/opt/sshd/dropbear"
  for library in $(ldd /usr/sbin/dropbear | grep -o '/[^ ]*'); do cp -L "$library" "$dir/opt/sshd/"; done
  local loader
  loader=$(basename "$dir"/opt/sshd/ld-linux*)
  printf '#!/bin/sh\nexec /opt/sshd/%s --library-path /opt/sshd /opt/sshd/dropbear "$@"\n' "$loader" >"$dir/usr/sbin/dropbear"
  chmod 755 "$dir/usr/sbin/dropbear"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$dir/etc/passwd"
  printf 'root:x:0:\n' >"$dir/etc/group"
  echo 'root:*:::::::' >"$dir/etc/shadow"
  chmod 600 "$dir/etc/shadow"
  echo /bin/sh >"$dir/etc/shells"
  printf '%s\n' '::sysinit:/bin/mkdir -p /run /var/run /var/spool/cron/crontabs' \
    '::respawn:/usr/sbin/dropbear -F -E -s -r /etc/dropbear/key' '::respawn:/usr/sbin/crond -f' >"$dir/etc/inittab"
}
