#!/bin/sh
# Leaves a Chromium on this machine, for the tests of the pages: Debian's, from its own packages.
# Does nothing where there is one. Without root or apt-get it says so and is no failure: the tests then tell what they
# skip, and fail in CI.
set -eu

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "chromium: there is none, and installing one takes root and apt-get: apt-get install chromium" >&2
    exit 0
fi

echo "chromium: installing Debian's package" >&2
# fonts-dejavu-core: without any font a page has boxes in place of letters.
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }; then
    echo "chromium: apt-get could not install it; the tests of the pages will say that they were skipped" >&2
fi
