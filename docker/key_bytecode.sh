#!/bin/sh
# Inside a build, last: byte code that Python keeps in /cache belongs to exactly these sources.
# Every file of an image has the same date, so a cache that outlives the image would take a changed file of equal size for the old one.
set -eu
key=$(find /opt/assay /assay -name '*.py' -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
for packages in /opt/assay/lib/python3*/site-packages; do
    echo "import sys; sys.pycache_prefix = '/cache/pycache/$key'" >"$packages/assay_bytecode.pth"
done
