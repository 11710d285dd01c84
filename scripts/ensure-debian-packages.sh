#!/usr/bin/env bash
# Installs the named Debian packages that are missing, and does nothing else.
# Usage: scripts/ensure-debian-packages.sh PACKAGE...
# With nothing missing it needs neither root nor the network. Exits 1 with a sentence when it cannot help.
set -euo pipefail

# mkfs.ext4, nginx and the like are not on an ordinary user's path.
PATH="$PATH:/usr/sbin:/sbin"

# Looks for the thing itself first: it may well have come from somewhere other than a package.
is_there() {
    case "$1" in
        strace | curl | make | nginx | haproxy | npm | chromium | redis-server | nats-server | pgbouncer) command -v "$1" >/dev/null && return ;;
        nodejs) command -v node >/dev/null && return ;;
        chromium-driver) command -v chromedriver >/dev/null && return ;;
        iproute2) command -v ip >/dev/null && return ;;
        nftables) command -v nft >/dev/null && return ;;
        e2fsprogs) command -v mkfs.ext4 >/dev/null && return ;;
        libfaketime) compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null && return ;;
    esac
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "$@"; do
    is_there "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]}. This is not a Debian system (no apt-get): please install them by hand." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing: ${missing[*]}. As root, run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

update() {
    "${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update >&2
}

echo "Installing Debian packages: ${missing[*]}" >&2
if ! { update && "${as_root[@]}" "$(dirname "$0")/install-debian-packages.sh" "${missing[@]}"; }; then
    echo "Could not install ${missing[*]} with apt-get; its own message is above." >&2
    exit 1
fi
