#!/usr/bin/env bash
# Runs a command with the packages that this host lacks. They lie beside this script and need no network.
# In the project's folder: kit/start python3 -m bench doctor
set -euo pipefail
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

say() { echo "$0: $*" >&2; }
if [ $# = 0 ]; then
    say "name a command, e.g. $0 python3 -m bench doctor"
    exit 2
elif [ ! -d bench ] || [ ! -f pytest.ini ]; then
    say "this is not the project's folder; go there first"
    exit 2
elif [ ! -L assay/bench ]; then
    say "assay/bench is no link: copy the project with its links, by git, tar or rsync -a"
    exit 2
elif ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || [ "$version" != "@PYTHON@" ]; then
    say "these wheels are for Python @PYTHON@ and $python is ${version:-not there}; name another with PYTHON=..., or pack the kit with --python"
    exit 2
fi

site=$kit/site
if ! cmp -s "$kit/requirements.txt" "$site/installed.txt"; then
    rm -rf "$site"
    if [ -s "$kit/requirements.txt" ]; then
        "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-index --find-links "$kit/wheels" --no-deps \
            --require-hashes --target "$site" --requirement "$kit/requirements.txt"
    fi
    mkdir -p "$site"
    cp "$kit/requirements.txt" "$site/installed.txt"
fi

# what a record says about its source: the kit's commit, if every file is still as it was there
revision=@REVISION@
sha256sum --check --status "$kit/tree.sha256" || revision=$revision-changed
export ASSAY_KIT=$kit ASSAY_REVISION=$revision PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
exec "$@"
