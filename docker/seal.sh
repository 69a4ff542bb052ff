#!/bin/sh
# Inside a build, last. The label of the locks must say what was installed, where the build was told any.
# Byte code that Python keeps in /cache belongs to exactly these sources, and to one user (own_cache.py): every file of an image has the
# same date, so a cache that outlives the image would take a changed file of equal size for the old one.
set -eu
if [ "${LOCK_SHA256:-unknown}" != unknown ]; then
    echo "$LOCK_SHA256  /opt/assay/locks.sha256" | sha256sum --check --quiet
fi
key=$(find /opt/assay /assay -name '*.py' -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
for packages in /opt/assay/lib/python3*/site-packages; do
    cp /assay/docker/own_cache.py "$packages/assay_own_cache.py"
    echo "import assay_own_cache; assay_own_cache.separate('$key')" >"$packages/assay_own_cache.pth"
done
