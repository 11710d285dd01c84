#!/usr/bin/env bash
# Makes .venv with exactly what requirements/dev.lock says, and Restante itself in editable form.
# PYTHON=/path/to/python chooses the interpreter. Run by `make setup`, which skips it when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $*" >&2
    exit 1
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 /usr/bin/python3}; do
        if is_recent "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

python=$(find_python) || fail "needs Python 3.11 or later, and found none${PYTHON:+ at $PYTHON}."

# An environment made by another Python, or moved here from elsewhere, is of no use.
if [ -e .venv ] && ! { is_recent .venv/bin/python && head -1 .venv/bin/pip | grep -qF "$PWD/.venv/"; }; then
    rm -rf .venv
fi

if [ ! -e .venv ]; then
    # Debian ships venv's other half, ensurepip, in a package of its own.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        scripts/ensure-debian-packages.sh python3-venv \
            || fail "$python cannot make virtual environments; install the Debian package python3-venv."
        "$python" -c 'import ensurepip, venv' 2>/dev/null \
            || fail "$python cannot make virtual environments even with python3-venv; set PYTHON to one that can."
    fi
    "$python" -m venv .venv || fail "could not make .venv with $python; its own message is above."
fi

pip() {
    .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"
}

pip install --require-hashes --requirement requirements/dev.lock \
    || fail "could not install requirements/dev.lock; pip's own message is above. Is a package index reachable?"
pip install --no-deps --no-build-isolation --editable . \
    || fail "could not install Restante itself into .venv; pip's own message is above."
