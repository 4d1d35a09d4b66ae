#!/usr/bin/env bash
# The Kubernetes manifests: every overlay, and every component over the base, is built by kustomize and held against the schemas
# of three versions of Kubernetes. Tools are installed on first use (Go for kustomize).
set -euo pipefail

kustomize_version=v5.8.0
validate_version=1.37.0
versions=(1.32 1.35 1.37)
tools=.cache/tools

if [ ! -x "$tools/bin/kustomize" ]; then
  command -v go >/dev/null || { echo "kustomize is built with Go: install it, then try again" >&2; exit 1; }
  echo "== building kustomize $kustomize_version (once)"
  GOBIN=$PWD/$tools/bin go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize_version"
fi
if [ ! -x "$tools/kubernetes-validate/bin/kubernetes-validate" ]; then
  python3 -m venv "$tools/kubernetes-validate"
  "$tools/kubernetes-validate/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$validate_version"
fi

built=$(mktemp -d)
# Below the project: kustomize reads nothing beside the folders that it is given.
over=k8s/.over-base
trap 'rm -rf "$built" "$over"' EXIT
check() {
  "$tools/bin/kustomize" build "$1" >"$built/all.yaml"
  # Resources of others (Prometheus operator, KEDA, Gateway API) have no schema there.
  awk -v RS='---\n' '/\napiVersion: (monitoring|keda|gateway)\.|^apiVersion: (monitoring|keda|gateway)\./ { next } { printf "---\n%s", $0 }' \
    "$built/all.yaml" >"$built/own.yaml"
  for version in "${versions[@]}"; do
    "$tools/kubernetes-validate/bin/kubernetes-validate" --quiet --strict --kubernetes-version "$version" "$built/own.yaml" ||
      { echo "$1 is not for Kubernetes $version" >&2; exit 1; }
  done
  echo "$1: $(grep -c '^kind:' "$built/all.yaml") resources"
}

for overlay in k8s/overlays/*/; do check "$overlay"; done
for component in k8s/components/*/; do
  mkdir -p "$over"
  printf 'resources: [../base]\ncomponents: ["../components/%s"]\n' "$(basename "$component")" >"$over/kustomization.yaml"
  check "$over" | sed "s|^$over|$component over the base|"
done
