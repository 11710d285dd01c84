#!/bin/sh
# Installs the systems that `restante bench` compares itself with: RabbitMQ, Redis, beanstalkd
# (Debian's packages) and NATS (built by Go, else Debian's package). Needs root for apt-get.
# Nothing is left running: the benchmark starts each server itself, in a fresh directory.
set -eu

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
        "$(dirname "$0")/../scripts/install-debian-packages.sh" "$package" ||
            echo "$package could not be installed; it will be left out of the comparison" >&2
    done
fi

for server in redis-server beanstalkd rabbitmq-server nats-server; do
    if have "$server"; then
        echo "$server: installed"
    else
        echo "$server: missing"
    fi
done
