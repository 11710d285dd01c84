#!/usr/bin/env bash
# Fetches the files of other projects that are served to browsers, exactly as they were published, with their
# licences. Usage: scripts/vendor.sh [VERSION]. Without a version: the one in VERSION, so that nothing changes.
# Needs npm. Look at the page at /docs afterwards, and commit the folder.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/src/restante/web/vendor/swagger-ui
files=(swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE)
version=${1:-$(head -n 1 "$target/VERSION")}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "swagger-ui-dist@$version" >/dev/null && tar -xzf ./*.tgz)
for file in "${files[@]}"; do
    cp "$work/package/$file" "$target/$file"
done
{
    sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' "$work/package/package.json" | head -n 1
    echo "swagger-ui-dist from npm, unchanged; refreshed by scripts/vendor.sh. SHA-256:"
    (cd "$target" && sha256sum "${files[@]}")
} >"$work/VERSION"
mv "$work/VERSION" "$target/VERSION"
echo "vendor: $target is swagger-ui $(head -n 1 "$target/VERSION")"
