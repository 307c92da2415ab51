#!/bin/sh
# Installs the locked packages into .venv. Needs python3 and a network.
# It is safe to run it again: it does nothing if .venv matches the lock files.
set -eu
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
VENV=.venv
LOCKS="infra/setup/bootstrap.lock requirements.lock pyproject.toml"
STAMP=$VENV/.locked

# With the absolute path, because a moved virtual environment does not work.
want="$(pwd) $(cat $LOCKS | cksum)"
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$want" ]; then
    exit 0
fi

"$PYTHON" - <<'EOF' || exit 2
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("setup: Python 3.11, 3.12 or 3.13 is needed. Received %s from %s. "
             "Choose another one: make setup PYTHON=python3.12" % (sys.version.split()[0], sys.executable))
EOF

rm -rf "$VENV"
if ! "$PYTHON" -m venv "$VENV" 2>/tmp/venv.$$; then
    # On Debian and Ubuntu, venv needs the separate package python3-venv.
    rm -rf "$VENV"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3-venv" >&2
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        "$PYTHON" -m venv "$VENV"
    else
        cat /tmp/venv.$$ >&2
        rm -f /tmp/venv.$$
        echo "setup: '$PYTHON -m venv' does not work here. On Debian or Ubuntu: apt install python3-venv" >&2
        exit 2
    fi
fi
rm -f /tmp/venv.$$

echo "setup: installing the locked packages into $VENV (a few GB; under a minute on a fast line)" >&2
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/setup/bootstrap.lock
# uv is several times faster than pip, but pip follows all index and proxy settings of this machine.
# Byte code is compiled now: if Python cannot write it later (PYTHONDONTWRITEBYTECODE, a read-only image), every process
# compiles TensorFlow again, which takes 14 s instead of 5.
if ! "$VENV/bin/uv" pip install --quiet --compile-bytecode --python "$VENV/bin/python" --require-hashes -r requirements.lock; then
    echo "setup: uv failed; trying pip, which takes some minutes" >&2
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
fi
"$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --offline --no-deps --no-build-isolation --editable .
printf '%s' "$want" >"$STAMP"
echo "setup: done" >&2
