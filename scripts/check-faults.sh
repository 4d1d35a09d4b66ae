#!/usr/bin/env bash
# The tests that docs/faults.md names exist: a table that outlives its tests proves nothing.
set -euo pipefail

bad=0
while IFS= read -r name; do
  if ! git grep -q -E "(fn|def) $name\(" -- '*.rs' '*.py'; then
    echo "docs/faults.md names the test $name, which does not exist" >&2
    bad=1
  fi
done < <(grep '^|' docs/faults.md | grep -o -E '`[a-z0-9]+(_[a-z0-9]+){3,}`' | tr -d '`' | sort -u)
exit "$bad"
