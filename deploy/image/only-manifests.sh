#!/bin/sh
# Gives every crate whose manifest is there empty sources, so that cargo builds what they depend on and nothing of ours.
set -eu

for manifest in crates/*/Cargo.toml tests/Cargo.toml bench/Cargo.toml; do
  crate=$(dirname "$manifest")
  mkdir -p "$crate/src"
  : >"$crate/src/lib.rs"
  echo 'fn main() {}' >"$crate/src/main.rs"
done
# What build scripts depend on is only built for a crate that has one.
echo 'fn main() {}' >crates/common/build.rs
# These two name files of their own.
mkdir -p crates/mcp-frontend/conformance crates/mcp-frontend/examples
echo 'fn main() {}' | tee crates/mcp-frontend/conformance/main.rs >crates/mcp-frontend/examples/fake_fleet.rs
