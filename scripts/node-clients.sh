#!/usr/bin/env bash
# Installs other people's clients for the tests into tests/clients/node/node_modules, exactly as the lock file there
# says. Run by `make test`, which skips it when nothing changed. Needs Node.js 18 or later, and npm.
# Usage: scripts/node-clients.sh         install
#        scripts/node-clients.sh lock    write the lock file anew, after a change of package.json
set -euo pipefail
cd "$(dirname "$0")/../tests/clients/node"

fail() {
    echo "node-clients: $*" >&2
    exit 1
}

for program in node npm; do
    command -v "$program" >/dev/null || fail "needs $program, and found none; install the Debian packages nodejs and npm."
done
node --eval 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' \
    || fail "needs Node.js 18 or later, and found $(node --version)."

# .npmrc here says the rest: no addresses in the lock file, and no scripts of others are run.
if [ "${1:-}" = lock ]; then
    npm install --package-lock-only >/dev/null || fail "could not write package-lock.json; npm's own message is above."
fi
if grep -n '"resolved"' package-lock.json; then
    fail "the lines above name where packages were downloaded from."
fi
npm ci >/dev/null || fail "could not install package-lock.json; npm's own message is above. Is a package index reachable?"
