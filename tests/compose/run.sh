#!/usr/bin/env bash
# `make test-compose`: images, then docker-compose.yml as it is with pages beside it, and what becomes of calls when parts of it
# are restarted, stopped, paused and killed.
#
# With a container engine and its compose that is all. Where there is none, and nothing can be pulled: STAND_INS=DIRECTORY
# starts one there and makes images of Debian's packages under the names that are used (see CONTRIBUTING.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/compose
directory=${STAND_INS:-}
export COMPOSE=${COMPOSE:-docker compose} DOCKER_BUILDKIT=1

within=()
if [ -n "$directory" ]; then
  directory=$(realpath -m "$directory")
  "$here/stand-ins/packages.sh" "$directory/root"
  "$here/stand-ins/engine.sh" start "$directory/engine"
  trap '"$here/stand-ins/engine.sh" stop "$directory/engine"' EXIT
  export DOCKER_HOST="unix://$directory/engine/docker.sock"
  "$here/stand-ins/images.sh" "$directory/root"
  within=("$here/stand-ins/engine.sh" enter "$directory/engine")
  # There is no image of a compiler: the programs are built here.
  export BROWSERFLEET_PROGRAMS=built
  make build
fi

scripts/setup-grpcurl.sh
docker info >/dev/null 2>&1 || { echo "no container engine answers; see CONTRIBUTING.md" >&2; exit 1; }
for target in mcp-frontend pool-daemon browserfleet; do
  echo "== image $target"
  docker build --quiet --build-arg PROGRAMS="${BROWSERFLEET_PROGRAMS:-compile}" --target "$target" --tag "browserfleet/$target:latest" .
done
echo "== docker-compose.yml, with clients"
"${within[@]}" "$PWD/.venv/bin/python" -m pytest "$here" -q -s "$@"
