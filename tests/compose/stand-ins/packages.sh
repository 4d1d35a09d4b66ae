#!/usr/bin/env bash
# A Debian that can install offline what our Dockerfile and the stand-ins install: packages.sh DIRECTORY makes its root file
# system there. For machines that reach Debian's packages but no container registry; see CONTRIBUTING.md.
set -euo pipefail

root=$1
# What the Dockerfile installs, then what the stand-ins do.
packages=(
  ca-certificates chromium-headless-shell fonts-liberation fonts-noto-cjk fonts-noto-color-emoji tini
  haproxy prometheus redis-server
)

[ -e "$root/packages/Packages" ] && exit 0
rm -rf "$root"
mkdir -p "$root"
echo "== debootstrap, and ${#packages[@]} packages with what they need (once, about a gigabyte)"
debootstrap --variant=minbase bookworm "$root" >/dev/null
cat >"$root/etc/apt/sources.list" <<'LIST'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
LIST
in_root() { DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
in_root apt-get update -qq
in_root apt-get upgrade -qq -y >/dev/null
in_root apt-get install -qq -y --no-install-recommends --download-only "${packages[@]}" >/dev/null
mkdir -p "$root/packages"
mv "$root"/var/cache/apt/archives/*.deb "$root/packages/"
in_root apt-get install -qq -y --no-install-recommends apt-utils >/dev/null
in_root sh -c 'cd /packages && apt-ftparchive packages . >Packages.new && mv Packages.new Packages'
echo 'deb [trusted=yes] file:/packages ./' >"$root/etc/apt/sources.list"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
