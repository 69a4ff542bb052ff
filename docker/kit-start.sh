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
elif [ -e assay/bench ] && [ ! -L assay/bench ]; then
    say "assay/bench is no link: copy the project with its links, by git, tar or rsync -a"
    exit 2
elif ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || [ "$version" != "@PYTHON@" ]; then
    say "these wheels are for Python @PYTHON@ and $python is ${version:-not there}; name another with PYTHON=..., or pack the kit with --python"
    exit 2
fi

for room in bench models datasets; do # some ways to copy leave links out
    [ -L "assay/$room" ] || ln -s "../$room" "assay/$room" 2>/dev/null || [ -L "assay/$room" ]
done

# An environment of its own above the host's packages: whatever a process does with PYTHONPATH, its children find the same.
# Named by what it holds, and moved there whole: a start may be killed, or be one of two at once.
environment=$kit/env-$( (cat "$kit/requirements.txt"; command -v "$python") | sha256sum | cut -c 1-16)
if [ ! -d "$environment" ]; then
    fresh=$(mktemp -d "$kit/.env-XXXXXX") || { say "$kit cannot be written; copy it to a folder where you may write"; exit 2; }
    trap 'rm -rf "$fresh"' EXIT
    "$python" -m venv --without-pip "$fresh"
    packages=$("$fresh/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -c 'import site
for folder in site.getsitepackages() + [site.getusersitepackages()] * bool(site.ENABLE_USER_SITE):
    print(f"import site; site.addsitedir({folder!r})")' >"$packages/host.pth"
    if [ -s "$kit/requirements.txt" ]; then
        "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-index --find-links "$kit/wheels" --no-deps \
            --require-hashes --target "$packages" --requirement "$kit/requirements.txt"
    fi
    chmod 755 "$fresh"
    mv -T "$fresh" "$environment" 2>/dev/null || [ -d "$environment" ]
    rm -rf "$fresh"
fi

# what a record says about its source where git does not: the kit's commit, if every file is still as it was there
if ! git rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
    revision=@REVISION@
    count=$( (find @ROOMS@ -type f ! -name '*.pyc' 2>/dev/null || true) | wc -l) # what was added is in no hash
    { sha256sum --check --status "$kit/tree.sha256" && [ "$count" = "$(wc -l <"$kit/tree.sha256")" ]; } || revision=$revision-changed
    export ASSAY_REVISION=$revision
fi
export ASSAY_KIT=$kit PYTHON=$environment/bin/python3 PATH=$environment/bin:$PATH
exec "$@"
