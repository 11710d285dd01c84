#!/usr/bin/env bash
# Writes requirements/base.lock (what a server runs on) and requirements/dev.lock (that, the extras,
# the tools and the build backend), both with hashes. Arguments are handed on to uv, for example
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
    "$uv" pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

compile --output-file requirements/base.lock "$@"
# The base lock constrains the dev lock: what is tested is what a server runs on.
compile --all-extras --group dev --constraint requirements/base.lock \
    --output-file requirements/dev.lock "$@"

if grep -nE '://|^--|(^|[[:space:]"])/' requirements/*.lock | grep -v -- '--hash='; then
    echo "lock: the lines above name an address, an index or an absolute path." >&2
    exit 1
fi
