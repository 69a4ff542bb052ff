#!/bin/sh
# Inside a build: the environment /opt/assay from lock files, the hashes of these, and its bill of materials.
#   install.sh LOCK...        /wheels: a folder of wheels; when it holds any, pip asks no index
set -eu
export PYTHONDONTWRITEBYTECODE=1
cd /build

python3 -m venv --without-pip /opt/assay
python3 -m venv /tmp/pip
for lock in "$@"; do
    if [ -n "$(ls -A /wheels)" ]; then # a lock may name an index of its own
        sed '/^--/d' "$lock" >/tmp/lock.txt
        from="--no-index --find-links /wheels"
    else
        cp "$lock" /tmp/lock.txt
        from=
    fi
    # shellcheck disable=SC2086  # $from is none or several words
    /tmp/pip/bin/pip --python /opt/assay/bin/python install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --no-deps --require-hashes --only-binary :all: --no-compile $from --requirement /tmp/lock.txt
done

# test programs and test data of libraries: 170 MB that nothing here runs
cd /opt/assay/lib/python3*/site-packages
rm -rf torch/test torch/bin/test_* torch/bin/*Test pandas/tests
command -v gcc >/dev/null || rm -rf torch/include # headers for a compiler

(cd /build && sha256sum "$@") >/opt/assay/locks.sha256 # whoever builds: a label can only say what a build is told
/opt/assay/bin/python /build/sbom.py >/opt/assay/sbom.cdx.json
rm -rf /tmp/pip /tmp/lock.txt
