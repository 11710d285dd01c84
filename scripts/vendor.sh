#!/usr/bin/env bash
# Fetches the files of other projects that are served to browsers, exactly as they were published, with their
# licences. Usage: scripts/vendor.sh [PACKAGE VERSION]. Without one: those in the VERSION files, so that nothing
# changes. Needs npm. Look at /docs and at the operators' page afterwards, and commit the folders.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=${1:-}
wanted_version=${2:-}

# vendor PACKAGE FOLDER FILE...: each FILE of the package, flat into the folder, with VERSION beside them.
vendor() {
    local package=$1 target=$PWD/src/restante/$2 version work names=()
    shift 2
    version=$(head -n 1 "$target/VERSION")
    [ "$package" != "$wanted" ] || version=$wanted_version
    work=$(mktemp -d)
    (cd "$work" && npm pack --silent "$package@$version" >/dev/null && tar -xzf ./*.tgz)
    for file in "$@"; do
        cp "$work/package/$file" "$target/$(basename "$file")"
        names+=("$(basename "$file")")
    done
    {
        sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' "$work/package/package.json" | head -n 1
        echo "$package from npm, unchanged; refreshed by scripts/vendor.sh. SHA-256:"
        (cd "$target" && sha256sum "${names[@]}")
    } >"$work/VERSION"
    mv "$work/VERSION" "$target/VERSION"
    rm -r "$work"
    echo "vendor: $target is $package $(head -n 1 "$target/VERSION")"
}

vendor swagger-ui-dist web/vendor/swagger-ui \
    swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE
vendor htmx.org desk/vendor/htmx dist/htmx.min.js LICENSE
vendor uplot desk/vendor/uplot dist/uPlot.iife.min.js dist/uPlot.min.css LICENSE
