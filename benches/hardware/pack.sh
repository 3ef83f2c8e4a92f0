#!/usr/bin/env bash
# Packs what a Linux machine with a GPU, but without Rust and without a Vulkan loader, needs to measure gabor, into one
# file below 60 MB: the stripped binary, the loader with the libraries that GPU drivers ask for, and the scripts.
#
#   benches/hardware/pack.sh [FILE]     FILE is target/hardware.tar.xz unless given
#
# There:
#
#   tar xf hardware.tar.xz && hardware/run.sh RESULTS
#
# and here again, with the folder RESULTS:
#
#   python benches/hardware/tables.py RESULTS
#
# Needs cargo, and apt-get for the loader: elsewhere than on Debian and Ubuntu it is left out, and the machine must have
# libvulkan.so.1 itself.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

file=${1:-target/hardware.tar.xz}
mkdir -p -- "$(dirname -- "$file")"
file=$(realpath -- "$file")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir -p "$work/hardware/lib"

cargo build --release --locked
strip -o "$work/hardware/gabor" target/release/gabor
cp benches/hardware/run.sh benches/peers/pytorch.py "$work/hardware/"

# NVIDIA's driver makes no Vulkan instance without the libraries of GLVND and X, windows or none.
packages=(libvulkan1 libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2
    libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0)
if command -v apt-get >/dev/null; then
    mkdir "$work/packages"
    (cd "$work/packages" && apt-get download "${packages[@]}" 2>/dev/null >/dev/null)
    for package in "$work"/packages/*.deb; do
        dpkg -x "$package" "$work/root"
    done
    find "$work/root" -name '*.so*' -exec cp --no-dereference {} "$work/hardware/lib/" \;
else
    echo "no apt-get: the Vulkan loader is left out"
fi

tar --create --xz --file "$file.part" --directory "$work" hardware
size=$(stat --format %s "$file.part")
if ((size > 60000000)); then
    echo "$file would have $size bytes, more than 60 MB" >&2
    exit 1
fi
mv -- "$file.part" "$file"
echo "$file: $((size / 1000000)) MB"
