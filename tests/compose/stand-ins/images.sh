#!/usr/bin/env bash
# Images under the names that docker-compose.yml and the Dockerfile use: images.sh ROOT makes those that the engine
# does not have, of the packages that packages.sh has put there.
set -euo pipefail

here=$(dirname "$0") root=$1

has() { docker image inspect "$1" >/dev/null 2>&1; }
# Where our files say what they want: a name is written in one place.
named() { sed -nE "s|^ *$1||p" "$here/../../../$2" | head -n 1; }

debian=$(named 'ARG DEBIAN=' Dockerfile)
distroless=$(named 'ARG DISTROLESS=' Dockerfile)

if ! has "$debian"; then
  echo "== $debian"
  tar -C "$root" -c . | docker import - "$debian" >/dev/null
fi

if ! has "$distroless"; then
  echo "== $distroless"
  # A C library, the linker, certificates and a user, as there.
  tree=$(mktemp -d)
  trap 'rm -rf "$tree"' EXIT
  libraries=usr/lib/x86_64-linux-gnu
  mkdir -p "$tree/$libraries" "$tree/usr/lib64" "$tree/etc" "$tree/tmp"
  chmod 1777 "$tree/tmp"
  ln -s usr/lib "$tree/lib"
  ln -s usr/lib64 "$tree/lib64"
  cp -a "$root"/$libraries/ld-linux-x86-64.so.2 "$root"/$libraries/lib{c,m,gcc_s,resolv,nss_dns,nss_files}.so.* "$tree/$libraries/"
  ln -s "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$tree/usr/lib64/"
  printf 'root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n' >"$tree/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$tree/etc/group"
  tar -C "$tree" -c . | docker import --change 'USER 65532' --change 'ENV PATH=/usr/local/bin:/usr/bin' - "$distroless" >/dev/null
fi

make_one() {
  has "$2" && return
  echo "== $2"
  DOCKER_BUILDKIT=1 docker build --quiet --target "$1" --tag "$2" "$here" >/dev/null
}
for kind in redis haproxy prometheus; do
  make_one "$kind" "$(named "image: (prom/)?$kind" docker-compose.yml | sed "s|^|$kind|; s|^prometheus|prom/prometheus|")"
done
