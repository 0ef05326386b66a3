#!/usr/bin/env bash
# Build the image from the repository root; further arguments go to `docker build`.
set -euo pipefail
cd "$(dirname "$0")/.."
set -a
. containers/versions.env
set +a
exec docker build --build-arg BASE_IMAGE --tag "${IMAGE:-cosmos-nemo}" "$@" .
