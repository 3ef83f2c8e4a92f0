#!/usr/bin/env bash
# Measures gabor on this machine's GPU, and PyTorch beside it where it is installed: the most valuable first, each result
# in a file of its own as soon as it is known, so that a run that is cut off has lost only what it had not come to.
#
#   run.sh RESULTS [--device NAME] [--minutes N] [--tune quick|full] [--only "STEP STEP .."] [--short]
#
# RESULTS is a folder, made if it is missing. --device is gabor's (default: gpu); --minutes ends the run after so long
# (default: 8); --tune is how long kernels are timed (default: full); --only leaves out all but these steps, by the names of
# their files; --short runs everything once with next to no time for each figure, as a rehearsal. Environment:
# GABOR, the binary to run (default: the one beside this script), and PYTHON, a Python with the package torch.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

usage() {
    sed -n '5,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

results= device=gpu minutes=8 tune=full only= short=
while (($# > 0)); do
    case $1 in
        --device) device=${2:?--device needs a name} && shift 2 ;;
        --minutes) minutes=${2:?--minutes needs a number} && shift 2 ;;
        --tune) tune=${2:?--tune needs quick or full} && shift 2 ;;
        --only) only=${2:?--only needs names of steps} && shift 2 ;;
        --short) short=1 && shift ;;
        -*) usage ;;
        *) [[ -z $results ]] || usage
           results=$1 && shift ;;
    esac
done
[[ -n $results ]] || usage
mkdir -p -- "$results"
results=$(cd -- "$results" && pwd)
gabor=${GABOR:-$here/gabor}
python=${PYTHON:-python3}
pytorch=$here/pytorch.py
[[ -e $pytorch ]] || pytorch=$here/../peers/pytorch.py
deadline=$((SECONDS + 60 * minutes))

if [[ -d $here/lib ]]; then
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/lib
fi
# Where drivers lie that containers are given from outside, if the loader does not look there.
if [[ -z ${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-} && -e /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json ]]; then
    export VK_DRIVER_FILES=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
fi
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
# Compiled kernels and tuned choices of this run only.
XDG_CACHE_HOME=$(mktemp -d)
export XDG_CACHE_HOME
trap 'rm -rf -- "$XDG_CACHE_HOME"' EXIT

# step NAME SECONDS COMMAND...: the command's output as NAME.txt, under another name until it is whole, and what it says
# beside as NAME.log. FILE in the command becomes NAME.json, which appears with the text. What fails or takes longer than
# SECONDS is noted and passed over.
step() {
    local name=$1 seconds=$2 left=$((deadline - SECONDS)) status=0 began=$SECONDS
    shift 2
    if [[ -n $only && " $only " != *" $name "* ]]; then
        return
    fi
    if ((left < 5)); then
        echo "$name: no time left" | tee -a "$results/steps.txt"
        return
    fi
    # A rehearsal may run on a slow machine.
    [[ -z $short ]] || seconds=$((5 * seconds))
    rm -f -- "$results/$name".{json,txt,log}
    ((seconds < left)) || seconds=$left
    timeout --kill-after 5 "$seconds" "${@//FILE/$results/$name.json.part}" >"$results/$name.txt.part" 2>"$results/$name.log" || status=$?
    echo "$name: exit code $status after $((SECONDS - began)) s" | tee -a "$results/steps.txt"
    [[ -s $results/$name.log ]] || rm -f -- "$results/$name.log"
    [[ ! -e $results/$name.json.part ]] || mv -- "$results/$name.json.part" "$results/$name.json"
    mv -- "$results/$name.txt.part" "$results/$name.txt"
}

seconds=1 sizes=1024,2048,4096,8192 batch=64
w1=128,256 w3=64,128,256 w4t=64,128
check=(check) models=(W1 W2 W3 W4) tuned=(W1 W3) residual=resnet18 by_batch=W3
if [[ -n $short ]]; then
    seconds=0.01 sizes=64,128 tune=quick batch=2
    w1=2,4 w3=2,4 w4t=1
    check=(check --only softmax) models=(W1) tuned=(W1) residual=lenet5 by_batch=W1
fi
bench() {
    local name=$1 limit=$2
    shift 2
    step "$name" "$limit" "$gabor" bench "$@" --device "$device" --seconds "$seconds" --json FILE
}
torch_figures() {
    local name=$1 limit=$2
    shift 2
    if [[ -n $has_torch ]]; then
        step "$name" "$limit" "$python" "$pytorch" "$@" --device cuda --seconds "$seconds" --json FILE
    fi
}
profile() {
    local name=$1 limit=$2
    shift 2
    step "$name" "$limit" "$gabor" profile "$@" --device "$device" --trace FILE
}

: >"$results/steps.txt"
has_torch=
if "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; then
    has_torch=1
else
    echo "PyTorch: left out, as $python has no torch that sees a CUDA device" | tee -a "$results/steps.txt"
fi

step devices 20 "$gabor" devices --json
# Quiet on machines without an NVIDIA GPU.
if command -v nvidia-smi >/dev/null; then
    step nvidia-smi 20 nvidia-smi
fi
step check 120 "$gabor" "${check[@]}" --device "$device" --json
bench w5-kernels 60 W5 --sizes "$sizes" --each-kernel
bench w6-kernels 60 W6 --each-kernel
bench models 60 "${models[@]}"
torch_figures models-eager 60 W1 W2 W3 W4 W4t W5 W6
bench models-tuned 90 "${tuned[@]}" --tune "$tune"
torch_figures models-channels-last 60 W1 W3 W4 W4t W6 --channels-last
if [[ -z $short ]]; then
    bench w4t-tuned 90 W4t --tune "$tune"
fi
torch_figures models-compile 120 W1 W3 W4 W4t --compile
profile profile-resnet18 40 "$residual" --batch-size "$batch"
if [[ -z $short ]]; then
    profile profile-resnet50 40 resnet50 --image-size 224 --classes 1000 --batch-size "$batch"
    profile profile-resnet50-inference 40 resnet50 --image-size 224 --classes 1000 --batch-size 8 --mode infer
fi
profile profile-seed-cnn 30 seed-cnn --image-size 28 --channels 1 --batch-size "$batch"
bench w1-batches 60 W1 --batch-size "$w1"
bench w3-batches 60 "$by_batch" --batch-size "$w3"
torch_figures w3-batches-eager 60 W3 --batch-size "$w3" --channels-last
if [[ -z $short ]]; then
    bench w4t-batches 60 W4t --batch-size "$w4t"
fi
torch_figures models-amp 60 W1 W3 W4 W4t --amp --channels-last
torch_figures models-compile-channels-last 120 W3 W4 W4t --compile --channels-last
if [[ -z $short ]]; then
    bench kernels 90 kernels
fi
echo "done after $SECONDS s" | tee -a "$results/steps.txt"
