#!/usr/bin/env bash
# libFuzzer against each reader of what comes from outside (tests/src/fuzz.rs), for FUZZ_SECONDS each (60), or against those
# that are named. What it finds that breaks a promise is in fuzz/artifacts; what it has learned is in fuzz/found, and goes on
# from there the next time. `scripts/fuzz.sh --keep` makes that, minimised, the committed corpus.
set -euo pipefail

version=0.13.2
tools=.cache/tools
seconds=${FUZZ_SECONDS:-60}
# Longest input, in bytes: what matters happens in fewer, and the corpora stay small.
longest=2048
# Most files that are kept of what was found for a target.
kept=200
# The pinned compiler: without a sanitizer nothing of it needs another one. Our own code has no memory errors to find.
fuzz() { PATH="$PWD/$tools/bin:$PATH" cargo fuzz "$1" --sanitizer none "${@:2}"; }

keep=
if [ "${1:-}" = --keep ]; then
  keep=yes
  shift
fi
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)

if ! "$tools/bin/cargo-fuzz" --version 2>/dev/null | grep -q " $version\$"; then
  echo "== building cargo-fuzz $version (once, a minute)"
  cargo install cargo-fuzz --version "$version" --locked --quiet --root "$tools" --target-dir .cache/fuzz-target
  rm -rf .cache/fuzz-target
fi

echo "== building with a fuzzer's instrumentation (the first time takes several minutes)"
fuzz build
for target in "${targets[@]}"; do
  mkdir -p "fuzz/found/$target"
  if [ -n "$keep" ]; then
    echo "== $target: what is worth keeping"
    merged=$(mktemp -d)
    fuzz run "$target" "$merged" "fuzz/corpus/$target" "fuzz/found/$target" -- -set_cover_merge=1 -max_len=$longest >/dev/null 2>&1
    # Written in the order of what each adds: the first ones are most of it. Those with names of their own were chosen by hand.
    find "fuzz/corpus/$target" -type f -regextype egrep -regex '.*/[0-9a-f]{40}' -delete
    find "$merged" -type f -printf '%T@ %p\n' | sort -n | sed -n "1,${kept}p" | cut -d' ' -f2- | xargs -r cp -t "fuzz/corpus/$target"
    rm -rf "$merged"
  else
    echo "== $target: $seconds s"
    fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
      -max_total_time="$seconds" -max_len=$longest -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
  fi
done
