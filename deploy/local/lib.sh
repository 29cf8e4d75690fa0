# What deploy/local/up and tests/run share: messages, packages, builds. Sourced by bash scripts that have set
# `program` (for messages) and `root` (the repository).
# shellcheck shell=bash

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "$program" "$*" >&2
  exit 1
}

# as_root COMMAND…: runs it, through sudo when we are not root.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

# missing_packages PACKAGE…: those that are not installed, one a line.
missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
  for package in "$@"; do
    case $'\n'$installed$'\n' in
    *$'\n'"installed $package"$'\n'*) ;;
    *) say "$package" ;;
    esac
  done
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

apt_update() {
  say "Reading Debian's package lists (apt-get update)"
  as_root apt-get update >>"$1" 2>&1 || true # what follows fails if it mattered
}

# need_packages PACKAGE…: installs those that are missing. A failure is one line that names the package.
need_packages() {
  local missing package log
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    die "this needs Debian 12 (apt-get); elsewhere install what deploy/local/packages lists and use --no-install"
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "can't install ${missing[*]}: not root and no sudo; as root run: apt-get install ${missing[*]}"
  log=$root/build/apt.log
  mkdir -p "$root/build"
  : >"$log"
  say "Installing ${missing[*]}"
  apt_install "${missing[@]}" >>"$log" 2>&1 && return 0
  apt_update "$log"
  apt_install "${missing[@]}" >>"$log" 2>&1 && return 0
  for package in "${missing[@]}"; do # one by one, to name the culprit
    apt_install "$package" >"$log" 2>&1 ||
      die "can't install the Debian package $package: $(grep -m1 '^E: ' "$log" || tail -n1 "$log")"
  done
}

# need_prometheus prints the folder of `prometheus` and `promtool`. Installing Debian's package would also start
# and enable a service on a machine with systemd, so the package is only unpacked, under build/.
need_prometheus() {
  local dir=$root/build/prometheus log=$root/build/apt.log
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v prometheus)"
    return
  fi
  if [ ! -x "$dir/usr/bin/promtool" ]; then
    mkdir -p "$dir"
    (cd "$dir" && apt-get download prometheus) >>"$log" 2>&1 ||
      { apt_update "$log" >&2 && (cd "$dir" && apt-get download prometheus) >>"$log" 2>&1; } ||
      die "can't download the Debian package prometheus: $(grep '^E: ' "$log" | tail -n1)"
    dpkg -x "$dir"/prometheus_*.deb "$dir"
  fi
  say "$dir/usr/bin"
}

# need_postgresql: its programs, for tests/postgresql. Installing Debian's package would also make and start a server on
# port 5432; its settings say no before.
need_postgresql() {
  local settings=/etc/postgresql-common/createcluster.conf
  [ ! -x /usr/lib/postgresql/15/bin/postgres ] || return 0
  if [ ! -e "$settings" ]; then
    need_packages postgresql-common
    as_root sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' "$settings"
  fi
  need_packages postgresql-15
}

# is_configured PRESET [-DNAME=VALUE…]: is there a build folder, with everything on that shall be on? What is on
# already stays on: whoever built with the tests does not lose them by a run without.
is_configured() {
  local cache=$root/build/$1/CMakeCache.txt option
  [ -e "$root/build/$1/build.ninja" ] || return 1
  shift
  for option in "$@"; do
    case $option in
    -D*=ON) grep -q "^${option:2:-3}:[A-Z]*=ON$" "$cache" || return 1 ;;
    esac
  done
}

# build PRESET TARGETS… -- [CONFIGURE OPTION…]: configures when needed, then builds. Quiet unless it fails.
build() {
  local preset=$1 targets=() log
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    targets+=(--target "$1")
    shift
  done
  [ $# -eq 0 ] || shift
  log=$root/build/$preset.log
  mkdir -p "$root/build"
  cd "$root"
  if ! is_configured "$preset" "$@"; then
    local options=("$@")
    [ ! -e "build/$preset/build.ninja" ] || options=("${@/-D*=OFF/}")
    say "Configuring build/$preset"
    cmake --preset "$preset" "${options[@]}" >"$log" 2>&1 || { cat "$log" >&2 && die "cmake --preset $preset failed"; }
  fi
  if [ ! -e "build/$preset/.built" ]; then
    say "Building build/$preset (a minute or so, once)"
  fi
  cmake --build --preset "$preset" "${targets[@]}" >"$log" 2>&1 ||
    { cat "$log" >&2 && die "the build failed: cmake --build --preset $preset"; }
  touch "build/$preset/.built"
}
