#!/bin/sh
# Inside a build: compiles flash-attn in a copy of /opt/assay; the result lies in /opt/built.
set -eu
export PYTHONDONTWRITEBYTECODE=1
cd /build

python3 -m venv /tmp/pip
cp -a /opt/assay /opt/flash
install() {
    /tmp/pip/bin/pip --python /opt/flash/bin/python install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --no-deps --require-hashes --no-build-isolation --no-compile --find-links /wheels "$@"
}
sed '/^flash-attn==/,/[^\\]$/d' flash-attn.txt >/tmp/tools.txt
install --requirement /tmp/tools.txt

# the compiler's wheels lack what an installer of CUDA adds: lib64 and the names that a linker looks for
site=$(echo /opt/flash/lib/python3*/site-packages)
CUDA_HOME=$site/nvidia/cu13
export CUDA_HOME
[ -e "$CUDA_HOME/lib64" ] || ln -s lib "$CUDA_HOME/lib64"
for library in "$CUDA_HOME"/lib/lib*.so.*; do
    plain=${library%%.so.*}.so
    [ -e "$plain" ] || ln -s "$(basename "$library")" "$plain"
done

FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTN_CUDA_ARCHS="${FLASH_ATTN_CUDA_ARCHS:-80;90;120}" PATH="/opt/flash/bin:$CUDA_HOME/bin:$PATH" \
    install --requirement flash-attn.txt
mkdir /opt/built
cp -a "$site"/flash_attn* "$site"/einops* /opt/built/
