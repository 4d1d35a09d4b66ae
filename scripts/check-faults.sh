#!/usr/bin/env bash
# The tests that tables of the docs name exist: a table that outlives its tests proves nothing.
set -euo pipefail

bad=0
for table in docs/faults.md docs/isolation.md docs/hardening.md SECURITY.md; do
  while IFS= read -r name; do
    if ! git grep -q -E "(fn|def) $name\(" -- '*.rs' '*.py'; then
      echo "$table names the test $name, which does not exist" >&2
      bad=1
    fi
  done < <(grep -o -E '`[a-z0-9]+(_[a-z0-9]+){3,}`' "$table" | tr -d '`' | sort -u)
done
exit "$bad"
