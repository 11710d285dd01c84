#!/usr/bin/env bash
# Installs Debian packages as root, and leaves none of their services running, neither now nor after a boot:
# tests and benchmarks start their own. Usage: scripts/install-debian-packages.sh PACKAGE...
# Lists of packages are not fetched here; what fails, apt-get tells.
set -euo pipefail

# Debian asks this file before a package may start its service; 101 means "no". One that is there is the owner's.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
    install --yes --no-install-recommends "$@" >&2

# It may have been enabled for the next boot all the same, and the owner's policy may have let it start.
for package in "$@"; do
    if command -v systemctl >/dev/null; then
        systemctl disable "$package.service" >/dev/null 2>&1 || true
    fi
    if [ -e "/etc/init.d/$package" ]; then
        service "$package" stop >/dev/null 2>&1 || true
    fi
done
