#!/usr/bin/env bash
# A file does one thing and fits in the head: at most 500 lines before its tests (CONTRIBUTING.md).
set -euo pipefail

most=500
bad=0
while IFS= read -r file; do
  lines=$(awk '/^#\[cfg\(test\)\]/ { exit } { n++ } END { print n + 0 }' "$file")
  if [ "$lines" -gt "$most" ]; then
    echo "$file has $lines lines before its tests; at most $most" >&2
    bad=1
  fi
done < <(git ls-files '*.rs' '*.js' | grep -v -E '(^|/)(tests|benches)/' || true)
exit "$bad"
