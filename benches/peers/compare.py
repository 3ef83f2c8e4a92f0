"""Runs gabor and its peers on the benchmark workloads in turns and prints ratios of medians.

    python benches/peers/compare.py W1 W3 --threads 2
    python benches/peers/compare.py W5 W6 --device llvmpipe --rounds 5

Each round runs every program once on every workload, a process each, so that what else the machine does
meets them all alike; a figure is the median over the rounds of what each process calls its median. The
programs, of which those that are not there are named and left out:

    gabor     target/release/gabor; build it with `cargo build --release`
    burn      benches/peers/burn/target/release/gabor-peer-burn; build it there with `cargo build --release`
              (half an hour on two cores). Needs a GPU, a real one or one in software
    pytorch   benches/peers/pytorch.py in a Python with the package torch: this one, or --python. On
              --device cpu, or on a CUDA device; eager, with channels_last, compiled, and both
    onnxruntime, openvino
              the same script with these packages: W4 on --device cpu

gabor is compared with each of them, and with the best: --modes picks some of PyTorch's.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

PEERS = pathlib.Path(__file__).resolve().parent
ROOT = PEERS.parent.parent
GABOR = ROOT / "target/release/gabor"
BURN = PEERS / "burn/target/release/gabor-peer-burn"
MODES = {
    "eager": [],
    "channels_last": ["--channels-last"],
    "compiled": ["--compile"],
    "compiled, channels_last": ["--compile", "--channels-last"],
}
ENGINES = {"onnxruntime": ["onnxruntime", "onnx"], "openvino": ["openvino"]}
WORKLOADS = ["W1", "W2", "W3", "W4", "W4t", "W5", "W6", "W7"]


def programs(args):
    """For each program that can run here, a function from workload and file to its command."""
    found = {}
    seconds = ["--seconds", str(args.seconds)]
    if not GABOR.exists():
        sys.exit(f"gabor is not built: cargo build --release makes {GABOR}")
    threads = ["--threads", str(args.threads)] if args.threads else []
    found["gabor"] = lambda workload, file: [
        *[GABOR, "bench", workload, "--device", args.device, *threads, *seconds, "--json", file]
    ]

    burn_device = "cpu" if args.device in ("llvmpipe", "swiftshader") else "best"
    if args.device == "cpu":
        print("burn is left out: its wgpu backend needs a GPU, or --device llvmpipe")
    elif not BURN.exists():
        print(f"burn is left out, as it is not built: cargo build --release in {BURN.parent.parent.parent}")
    else:
        found["burn"] = lambda workload, file: [BURN, workload, "--device", burn_device, *seconds, "--json", file]

    software = args.device in ("llvmpipe", "swiftshader")
    torch_device = "cpu" if args.device == "cpu" else "cuda"
    script = f"import torch; raise SystemExit({torch_device!r} == 'cuda' and not torch.cuda.is_available())"
    if software:
        print("PyTorch is left out: it does not run on a GPU in software; compare it on --device cpu")
    elif subprocess.run([args.python, "-c", script], capture_output=True).returncode:
        print(f"PyTorch is left out: {args.python} has no torch that runs on {torch_device}; see --python")
    else:
        def pytorch(flags):
            script = [args.python, PEERS / "pytorch.py"]
            common = ["--device", torch_device, *threads, *seconds]
            return lambda workload, file: [*script, workload, *common, *flags, "--json", file]

        for mode in args.modes or MODES:
            found[f"pytorch {mode}"] = pytorch(MODES[mode])
        for engine, packages in ENGINES.items():
            script = "import importlib.util as u; raise SystemExit(not all(map(u.find_spec, %r)))" % (packages,)
            if args.device != "cpu":
                continue
            if subprocess.run([args.python, "-c", script], capture_output=True).returncode:
                print(f"{engine} is left out: {args.python} has not {' and '.join(packages)}")
            else:
                found[engine] = pytorch(["--engine", engine])
    return found


def takes(name, workload):
    """Whether a program has the workload, and is another one for it than those before."""
    if name in ENGINES:
        return workload == "W4"
    if name == "burn":
        return workload != "W7"
    # Single kernels have no graph to compile, and a matrix product no layout of images.
    modes = {"W5": ["eager"], "W6": ["eager", "channels_last"]}.get(workload, MODES)
    return not name.startswith("pytorch") or name in [f"pytorch {mode}" for mode in modes]


def run(command, args):
    """The report of one process, or None with its complaint printed."""
    environment = dict(os.environ)
    if args.threads:
        for name in ("LP_NUM_THREADS", "OMP_NUM_THREADS"):
            environment[name] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "report.json"
        try:
            done = subprocess.run(
                [*map(str, command(file))], env=environment, capture_output=True, text=True, timeout=args.timeout
            )
        except subprocess.TimeoutExpired:
            print(f"    not done after {args.timeout} s")
            return None
        if done.returncode or not file.exists():
            print("    " + "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-5:]))
            return None
        return json.loads(file.read_text())


def show(samples, names):
    """Prints medians of gabor's and the others' figures, and ratios above 1 where gabor is ahead."""
    head = ["figure", *[f"{name}" for name in names], "unit"]
    peers = [name for name in names if name != "gabor"]
    head += [f"gabor / {name}" for name in peers] + ["gabor / best", "best"]
    rows = [head]
    for (what, unit), by_program in samples.items():
        medians = {name: statistics.median(values) for name, values in by_program.items()}
        # Memory and time are better where they are less.
        smaller = unit in ("MiB", "s")
        row = [what, *[f"{medians[name]:,.1f}" if name in medians else "-" for name in names], unit]
        there = {name: medians[name] for name in peers if name in medians}
        best = (min if smaller else max)(there, key=there.get, default=None)
        for name in [*peers, best]:
            ratio = medians["gabor"] / medians[name] if name in medians and "gabor" in medians else None
            row.append("-" if ratio is None else f"{ratio:.2f}" + (" (less is better)" if smaller else ""))
        rows.append([*row, best or "-"])
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" if at == 0 else f"{cell:>{width}}"
                        for at, (cell, width) in enumerate(zip(row, widths))))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="See the head of the script for what it needs."
    )
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"of {', '.join(WORKLOADS)} (default: W1 W3 W5 W6)")
    parser.add_argument("--device", default="cpu", help="gabor's --device: cpu, gpu, llvmpipe, ... (default: cpu)")
    parser.add_argument("--threads", type=int, help="threads of each program on the CPU")
    parser.add_argument("--rounds", type=int, default=3, help="how often each program runs (default: 3)")
    parser.add_argument("--seconds", type=float, default=4, help="time for each figure in each round (default: 4)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a process is given up")
    parser.add_argument("--python", default=sys.executable, help="a Python that has the package torch")
    parser.add_argument("--modes", nargs="*", choices=MODES, help="of PyTorch (default: all)")
    parser.add_argument("--json", metavar="FILE", help="also write every sample to this file")
    args = parser.parse_args()
    unknown = [name for name in args.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}: there are {', '.join(WORKLOADS)}")

    found = programs(args)
    samples = {}
    failed = set()
    for turn in range(args.rounds):
        for workload in args.workloads or ["W1", "W3", "W5", "W6"]:
            for name, command in found.items():
                if (name, workload) in failed or not takes(name, workload):
                    continue
                print(f"round {turn + 1} of {args.rounds}: {workload} {name}", flush=True)
                report = run(lambda file: command(workload, file), args)
                if report is None:
                    failed.add((name, workload))
                    continue
                figures = [("peak memory", "MiB", report["peak_rss_mib"])]
                for result in report["results"]:
                    batch = f" batch {result['batch']}" if result["batch"] else ""
                    figures.append((f"{result['what']} {result['size']}{batch}", result["unit"], result["value"]))
                    if result.get("first_step_s"):
                        figures.append((f"first step of {result['what']}{batch}", "s", result["first_step_s"]))
                for what, unit, value in figures:
                    key = (f"{workload} {what}", unit)
                    samples.setdefault(key, {}).setdefault(name, []).append(value)
    print()
    show(samples, list(found))
    if args.json:
        report = [
            {"what": what, "unit": unit, "samples": by_program} for (what, unit), by_program in samples.items()
        ]
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
