#!/usr/bin/env bash
# A container engine for tests, where there is none: dockerd in a network namespace of its own, so that nothing it carries
# leaves this machine or can be reached from it. Everything it keeps is in one directory.
#
#   engine.sh start DIRECTORY   starts it, and waits until it answers on DIRECTORY/docker.sock
#   engine.sh enter DIRECTORY COMMAND…   runs a command in its network, with DOCKER_HOST set
#   engine.sh stop DIRECTORY    ends it with every container
set -euo pipefail

action=$1 directory=$(realpath -m "$2")
shift 2
export DOCKER_HOST="unix://$directory/docker.sock"
pid_file=$directory/dockerd.pid

is_running() { [ -e "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

case $action in
  start)
    is_running && exit 0
    mkdir -p "$directory/data" "$directory/run"
    rm -f "$pid_file"
    # shellcheck disable=SC2016  # the inner shell expands its own arguments
    setsid unshare --net bash -c '
      ip link set lo up
      exec dockerd --data-root "$1/data" --exec-root "$1/run" --pidfile "$1/dockerd.pid" --host "unix://$1/docker.sock" \
        --storage-driver overlay2 --userland-proxy=true
    ' dockerd "$directory" >"$directory/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 100); do
      docker version >/dev/null 2>&1 && exit 0
      sleep 0.2
    done
    echo "dockerd does not start: see $directory/dockerd.log" >&2
    exit 1
    ;;
  enter)
    is_running || { echo "no engine runs in $directory: engine.sh start $directory" >&2; exit 1; }
    exec nsenter --net="/proc/$(cat "$pid_file")/ns/net" "$@"
    ;;
  stop)
    is_running || exit 0
    docker ps --quiet | xargs --no-run-if-empty docker kill >/dev/null
    pid=$(cat "$pid_file")
    kill "$pid"
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || exit 0
      sleep 0.2
    done
    echo "dockerd ($pid) does not end" >&2
    exit 1
    ;;
  *)
    echo "engine.sh start|enter|stop DIRECTORY" >&2
    exit 64
    ;;
esac
