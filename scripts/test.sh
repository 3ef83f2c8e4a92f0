#!/usr/bin/env bash
# Runs every check of the repository: formatting, lints and tests, the shaders on a software GPU.
#
#   scripts/test.sh            everything
#   scripts/test.sh ARGS...    only `cargo test --locked ARGS...`, for instance: scripts/test.sh conv2d
#
# On Debian and Ubuntu it first installs what is missing, with sudo unless it runs as root. Elsewhere install
# Mesa's lavapipe, the Vulkan loader, spirv-val and Chromium by hand. GABOR_TEST_GPU=optional skips the shaders' tests
# where there is no software GPU, and GABOR_TEST_BROWSER=optional those of pages where there is no Chromium, instead of
# failing. Where there is python3, the package tensorboard is installed in target/python, and reads what is written for it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

install_missing() {
    local package missing=() as_root=()
    for package in libvulkan1 mesa-vulkan-drivers spirv-tools chromium; do
        dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        return
    fi
    echo "installing ${missing[*]}"
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"
}

# The file's name holds the architecture in some versions of Mesa and not in others.
lavapipe() {
    local file
    for file in {/usr/share,/usr/local/share,/etc}/vulkan/icd.d/lvp_icd*.json; do
        if [[ -e $file ]]; then
            echo "$file"
            return
        fi
    done
}

if command -v apt-get >/dev/null; then
    install_missing
fi
if [[ -z ${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-} ]]; then
    driver=$(lavapipe)
    [[ -z $driver ]] || export VK_ICD_FILENAMES=$driver
fi
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
# What lavapipe compiles runs for a moment: a third of the time goes into making it faster.
export GALLIVM_PERF=${GALLIVM_PERF:-nopt}
export GABOR_TEST_GPU=${GABOR_TEST_GPU:-required}
export GABOR_TEST_BROWSER=${GABOR_TEST_BROWSER:-required}
if [[ -z ${GABOR_TEST_PYTHON:-} ]] && command -v python3 >/dev/null; then
    GABOR_TEST_PYTHON=$PWD/target/python/bin/python
    [[ -x $GABOR_TEST_PYTHON ]] || python3 -m venv target/python
    # tensorboard imports pkg_resources, which later versions of setuptools lack.
    "$GABOR_TEST_PYTHON" -c 'import tensorboard' 2>/dev/null ||
        "$GABOR_TEST_PYTHON" -m pip install --quiet 'tensorboard==2.20.0' 'setuptools<81'
    export GABOR_TEST_PYTHON
fi

if (($# > 0)); then
    exec cargo test --locked "$@"
fi
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo test --workspace --locked
echo "all checks passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
