# Small packages of our own for each package manager, in /srv/repo of every host: two versions of a service, one that
# depends on it, one that stands alone, one whose script fails. A family's repository is built once for each recipe.

# name version depends script
DEMO='rbdemo 1.0 - true
rbdemo 1.1 - true
rbdep 1.0 rbdemo true
rbother 1.0 - true
rbbroken 1.0 - false'

# Debian's own, with what they need beyond the base.
REAL=nginx

repo_dir() {
  local recipe
  recipe=$({ echo "$DEMO $REAL"; declare -f repo_deb real_debs repo_rpm repo_arch; } | sha256sum)
  echo "$FLEET_HOME/bases/repo-${recipe:0:12}"
}

# repo FAMILY [BASE]: deb is built on this machine, the others within a base that has their tools.
repo() {
  mkdir -p "$REPO"
  touch "$REPO.used"
  [ ! -d "$REPO/$1" ] || return 0
  exec 7>"$REPO/.lock"
  flock 7
  if [ ! -d "$REPO/$1" ]; then
    rm -rf "$REPO/.$1"
    mkdir "$REPO/.$1"
    if [ "$1" = deb ]; then repo_deb "$REPO/.$1"; else within "$(base "$2")" "repo_$1" "$REPO/.$1"; fi >&2 7>&-
    mv "$REPO/.$1" "$REPO/$1"
  fi
  exec 7>&-
}

# within BASE FUNCTION DIR: calls one of these functions in a throw-away layer over a base, DIR being /out there.
within() {
  DEMO=$DEMO unshare --mount --propagation private bash -ec "$(declare -f "$2")"'
    layer=$(mktemp -d); trap "umount -R \"$layer\"; rmdir \"$layer\"" EXIT
    mount -t tmpfs tmpfs "$layer"; mkdir "$layer"/{upper,work,root}; root=$layer/root
    mount -t overlay overlay -o "lowerdir=$0,upperdir=$layer/upper,workdir=$layer/work" "$root"
    mount -t proc proc "$root/proc"; mkdir "$root/out"; mount --bind "$2" "$root/out"
    export -f "$1"; chroot "$root" bash -ec "$1 /out"' "$@"
}

repo_deb() { # DIR
  local name version depends script tree
  while read -r name version depends script; do
    tree=$(mktemp -d)
    chmod 755 "$tree"
    mkdir -p "$tree"/{DEBIAN,etc/$name,usr/bin,lib/systemd/system,etc/init.d}
    printf '%s\n' "Package: $name" "Version: $version" "Architecture: all" "Maintainer: tests <tests@localhost>" \
      "Description: for tests" >"$tree/DEBIAN/control"
    [ "$depends" = - ] || echo "Depends: $depends" >>"$tree/DEBIAN/control"
    echo "/etc/$name/$name.conf" >"$tree/DEBIAN/conffiles"
    echo "version=$version" >"$tree/etc/$name/$name.conf"
    printf '#!/bin/sh\necho %s %s\nexec sleep infinity\n' "$name" "$version" >"$tree/usr/bin/${name}d"
    printf '#!/bin/sh\n[ "$1" != configure ] || %s\n' "$script" >"$tree/DEBIAN/postinst"
    chmod 755 "$tree/DEBIAN/postinst" "$tree/usr/bin/${name}d"
    printf '[Unit]\nDescription=%s\n[Service]\nExecStart=/usr/bin/%sd\n[Install]\nWantedBy=multi-user.target\n' \
      "$name" "$name" >"$tree/lib/systemd/system/$name.service"
    dpkg-deb --root-owner-group -b "$tree" "$1/${name}_${version}_all.deb" >/dev/null
    rm -rf "$tree"
  done <<<"$DEMO"
  real_debs "$1"
  (cd "$1" && dpkg-scanpackages -m . >Packages 2>/dev/null && gzip -k Packages)
}

# From this machine's sources, by lists of its own: those of this machine may be old, and are left alone.
real_debs() { # DIR
  local state file name apt
  state=$(mktemp -d)
  mkdir -p "$state"/{lists,archives}/partial
  apt=(apt-get -qq -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$(base debian)/var/lib/dpkg/status"
    -o "Dir::Cache::archives=$state/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=root -o Debug::NoLocking=true)
  # shellcheck disable=SC2086
  { "${apt[@]}" update && "${apt[@]}" install -y --download-only --no-install-recommends $REAL; } </dev/null >&2
  for file in "$state"/archives/*.deb; do
    name=${file##*/}
    mv "$file" "$1/${name/[0-9]%3a/}" # an epoch, which apt does not find in a name at file://
  done
  rm -rf "$state"
}

repo_rpm() { # DIR; in a base with rpmbuild and createrepo_c
  local name version depends script spec=/tmp/demo.spec
  # Something has to provide the shell that scripts want: Debian's is not rpm's.
  printf '%s\n' 'Name: fleet-base' 'Version: 1' 'Release: 1' 'Summary: for tests' 'License: MIT' 'BuildArch: noarch' \
    'Provides: /bin/sh' '%description' 'for tests' '%files' >$spec
  rpmbuild -bb --quiet --define '_topdir /tmp/rpm' --define "_rpmdir $1" $spec
  while read -r name version depends script; do
    printf '%s\n' "Name: $name" "Version: $version" 'Release: 1' 'Summary: for tests' 'License: MIT' \
      'BuildArch: noarch' >$spec
    [ "$depends" = - ] || echo "Requires: $depends" >>$spec
    printf '%s\n' '%description' 'for tests' '%install' "mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/$name" \
      "printf '#!/bin/sh\\necho $name $version\\n' >%{buildroot}/usr/bin/$name" \
      "echo version=$version >%{buildroot}/etc/$name/$name.conf" '%post' "$script" '%files' \
      "%attr(0755,root,root) /usr/bin/$name" "%config(noreplace) /etc/$name/$name.conf" >>$spec
    rpmbuild -bb --quiet --define '_topdir /tmp/rpm' --define "_rpmdir $1" $spec
  done <<<"$DEMO"
  createrepo_c -q "$1"
}

repo_arch() { # DIR; in a base with bsdtar and zstd. Writes the database itself: repo-add is not in Debian's pacman.
  local name version depends script tree file database
  database=$(mktemp -d)
  while read -r name version depends script; do
    tree=$(mktemp -d)
    mkdir -p "$tree/usr/bin" "$tree/etc/$name"
    printf '#!/bin/sh\necho %s %s\n' "$name" "$version" >"$tree/usr/bin/$name"
    chmod 755 "$tree/usr/bin/$name"
    echo "version=$version" >"$tree/etc/$name/$name.conf"
    printf '%s\n' "pkgname = $name" "pkgver = $version-1" 'pkgdesc = for tests' 'builddate = 1700000000' \
      'packager = tests' 'size = 100' 'arch = any' "backup = etc/$name/$name.conf" >"$tree/.PKGINFO"
    [ "$depends" = - ] || echo "depend = $depends" >>"$tree/.PKGINFO"
    printf 'post_install() {\n%s\n}\n' "$script" >"$tree/.INSTALL"
    file=$name-$version-1-any.pkg.tar.zst
    (cd "$tree" && bsdtar --uid 0 --gid 0 -cf - .[A-Z]* usr etc | zstd -qfo "$1/$file")
    rm -rf "$database/$name-"* # the newest version only
    mkdir "$database/$name-$version-1"
    printf '%%%s%%\n%s\n\n' FILENAME "$file" NAME "$name" VERSION "$version-1" DESC 'for tests' \
      CSIZE "$(stat -c %s "$1/$file")" ISIZE 100 SHA256SUM "$(sha256sum <"$1/$file" | cut -d' ' -f1)" ARCH any \
      >"$database/$name-$version-1/desc"
    [ "$depends" = - ] || printf '%%DEPENDS%%\n%s\n\n' "$depends" >>"$database/$name-$version-1/desc"
  done <<<"$DEMO"
  (cd "$database" && bsdtar -czf "$1/fleet.db" -- *)
}

REPO=$(repo_dir)
