#!/usr/bin/env bash
# Secrets and a first key for docker-compose.yml, made once: what is there already stays. They are files that only the user of
# the containers can read: you, or, for root, the images' own user.
set -euo pipefail
cd "$(dirname "$0")"

directory=secrets
ids=$(id -u):$(id -g)
[ "$(id -u)" != 0 ] || ids=65532:65532
image=browserfleet/browserfleet:${BROWSERFLEET_VERSION:-latest}

umask 077
mkdir -p "$directory/keys"
for name in store grpc operator; do
  [ -s "$directory/$name" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$directory/$name"
done

# Keys are made by the program itself: the one named, one of this checkout, or the image.
keys() {
  if [ -n "${BROWSERFLEET_BIN:-}" ]; then
    "$BROWSERFLEET_BIN" keys "$@" --keys "$directory/keys/keys.json"
  elif [ -x ../../target/release/browserfleet ]; then
    ../../target/release/browserfleet keys "$@" --keys "$directory/keys/keys.json"
  else
    docker image inspect "$image" >/dev/null 2>&1 || docker build --target browserfleet --tag "$image" ../.. >&2
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD/$directory/keys:/keys" "$image" \
      keys "$@" --keys /keys/keys.json
  fi
}
[ -s "$directory/admin" ] || keys create --name admin --scopes admin >"$directory/admin"
[ -s "$directory/key" ] ||
  keys create --name first --scopes browser:read,browser:act,browser:evaluate,browser:files >"$directory/key"

if [ "$(id -u)" = 0 ]; then chown -R "$ids" "$directory"; fi
# Compose reads it beside docker-compose.yml.
touch ../../.env
grep -q '^BROWSERFLEET_USER=' ../../.env || echo "BROWSERFLEET_USER=$ids" >>../../.env
echo "the key for clients is in deploy/compose/$directory/key"
