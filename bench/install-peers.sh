#!/bin/sh
# Installs the systems that `restante bench` compares itself with: RabbitMQ, Redis, beanstalkd
# (Debian's packages) and NATS (built by Go, else Debian's package). Needs root for apt-get.
# Nothing is left running: the benchmark starts each server itself, in a fresh directory.
set -eu

POLICY=/usr/sbin/policy-rc.d
made_policy=no

cleanup() {
    if [ "$made_policy" = yes ]; then
        rm -f "$POLICY"
    fi
}
trap cleanup EXIT INT TERM

# Debian asks this file before a package may start its service; 101 means "no".
if [ ! -e "$POLICY" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    made_policy=yes
fi

have() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "$HOME/go/bin/$1" ]
}

packages=
have redis-server || packages="$packages redis-server"
have beanstalkd || packages="$packages beanstalkd"
have rabbitmq-server || packages="$packages rabbitmq-server"

if ! have nats-server; then
    if command -v go >/dev/null 2>&1; then
        # The newest release may want a newer Go than the one here; an older one is then good enough.
        GOFLAGS=-mod=mod go install github.com/nats-io/nats-server/v2@latest ||
            GOTOOLCHAIN=local GOFLAGS=-mod=mod go install github.com/nats-io/nats-server/v2@v2.10.29 ||
            echo "nats-server could not be built; it will be left out of the comparison" >&2
    else
        packages="$packages nats-server"
    fi
fi

if [ -n "$packages" ]; then
    apt-get update -q
    # One at a time, so that a package this release of Debian lacks costs only itself.
    for package in $packages; do
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package" ||
            echo "$package could not be installed; it will be left out of the comparison" >&2
        # A machine whose own policy file lets services start has it running now, and at each boot.
        case $package in
        redis-server | beanstalkd | rabbitmq-server | nats-server)
            if command -v systemctl >/dev/null 2>&1; then
                systemctl disable "$package" >/dev/null 2>&1 || true
            fi
            service "$package" stop >/dev/null 2>&1 || true
            ;;
        esac
    done
fi

for server in redis-server beanstalkd rabbitmq-server nats-server; do
    if have "$server"; then
        echo "$server: installed"
    else
        echo "$server: missing"
    fi
done
