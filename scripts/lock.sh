#!/usr/bin/env bash
# Writes requirements/base.lock (what a server runs on), requirements/dev.lock (that, the extras, the tools and the
# build backend), and for containers requirements/server.lock (a server with its extras) and requirements/build.lock
# (the build backend), all with hashes. Arguments are handed on to uv, for example
# `scripts/lock.sh --upgrade`, or `--upgrade-package msgspec`.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
if [ ! -x "$uv" ]; then
    echo "lock: there is no .venv yet; run 'make setup' first." >&2
    exit 1
fi

# No index, no header with the command and no absolute path gets into the files, so that they are
# the same whoever writes them and wherever their packages come from.
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

compile pyproject.toml --output-file requirements/base.lock "$@"
# The base lock constrains the dev lock: what is tested is what a server runs on.
compile pyproject.toml --all-extras --group dev --constraint requirements/base.lock \
    --output-file requirements/dev.lock "$@"
# And what is tested is what a container holds.
compile pyproject.toml --extra dashboard --extra grpc --extra nats --extra postgres --extra redis --extra tracing \
    --extra webhooks \
    --constraint requirements/dev.lock --output-file requirements/server.lock
compile --group build --constraint requirements/dev.lock --output-file requirements/build.lock

if grep -nE '://|^--|(^|[[:space:]"])/' requirements/*.lock | grep -v -- '--hash='; then
    echo "lock: the lines above name an address, an index or an absolute path." >&2
    exit 1
fi
