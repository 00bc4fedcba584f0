#!/usr/bin/env bash
# An aarch64 Python with numpy and onnxruntime in a folder, and `python` there, which runs it under qemu. Nothing is
# installed, and root is not needed: it takes apt-get and dpkg, Debian's keyring, and pip of any Python. A second call
# finds what the first one made.
#
#     tests/arm64/setup.sh FOLDER [PYTHON]
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd) pip="${2:-python3} -m pip"
root=$folder/root wheels=$folder/wheels
[ -e "$folder/made" ] && exit

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || { echo "$keyring is missing. mend: apt-get install debian-archive-keyring" >&2; exit 1; }
here=$(dpkg --print-architecture)
mkdir -p "$folder"/apt/{lists,cache/archives/partial,state} "$root" "$wheels"
: >"$folder/apt/status"
echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm main" >"$folder/apt/sources.list"

apt() { # ARCHITECTURE COMMAND...: apt-get with lists and packages of its own, where nothing is installed yet
    local architecture=$1
    shift
    apt-get -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
        -o Dir::Etc::SourceList="$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$folder/apt/state" -o Dir::State::Lists="$folder/apt/lists" -o Dir::State::Status="$folder/apt/status" \
        -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none \
        -o APT::Install-Recommends=false -o Acquire::Retries=3 "$@"
}

fetch() { # ARCHITECTURE TARGET PACKAGE...: with what they depend on, unpacked
    local architecture=$1 target=$2
    shift 2
    apt "$architecture" update
    apt "$architecture" --yes --download-only install "$@"
    for package in "$folder"/apt/cache/archives/*.deb; do dpkg-deb --extract "$package" "$target"; done
    rm -rf "$folder"/apt/{cache,lists,state}
    mkdir -p "$folder"/apt/{lists,cache/archives/partial,state}
}

fetch "$here" "$folder/host" qemu-user-static
fetch arm64 "$root" python3.11 libstdc++6
# 1.32.0 ends in a segmentation fault under qemu 7.2 when it is imported; this one runs.
$pip download --quiet --dest "$folder/downloads" --only-binary :all: --python-version 3.11 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    onnxruntime==1.23.2 numpy==2.4.6
for wheel in "$folder"/downloads/*.whl; do "${2:-python3}" -m zipfile -e "$wheel" "$wheels"; done

cat >"$folder/python" <<END
#!/bin/sh
PYTHONPATH=$wheels exec $folder/host/usr/bin/qemu-aarch64-static -L $root $root/usr/bin/python3.11 "\$@"
END
chmod +x "$folder/python"
"$folder/python" -c 'import onnxruntime, platform; assert platform.machine() == "aarch64"'
rm -rf "$folder/apt" "$folder/downloads"
touch "$folder/made"
