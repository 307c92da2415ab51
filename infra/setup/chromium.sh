#!/bin/sh
# Installs Debian's Chromium package, for the tests of the pages. Does nothing if there is a Chromium or Chrome.
# Without root or apt-get it prints a message and exits with code 0: the tests are then skipped with a reason, and fail
# in CI.
set -eu

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "chromium: not found. Installing it needs root and apt-get: apt-get install chromium" >&2
    exit 0
fi

echo "chromium: installing Debian's package" >&2
# fonts-dejavu-core: without a font, pages show boxes instead of letters.
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }; then
    echo "chromium: apt-get could not install it; the tests of the pages will be skipped" >&2
fi
