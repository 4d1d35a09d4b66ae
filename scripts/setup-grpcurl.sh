#!/usr/bin/env bash
# grpcurl for the tests of what docs/operations.md shows: built with Go on first use.
set -euo pipefail

version=v1.9.3
tools=.cache/tools/bin

[ -x "$tools/grpcurl" ] && exit 0
command -v go >/dev/null || { echo "grpcurl is built with Go: install it, then try again" >&2; exit 1; }
echo "== building grpcurl $version (once)"
GOBIN=$PWD/$tools go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version"
