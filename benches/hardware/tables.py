"""Makes the tables of docs/performance.md from what run.sh left on a machine with a GPU.

    python benches/hardware/tables.py RESULTS [--into docs/performance.md]

prints them as Markdown, or replaces what stands between the lines `<!-- hardware -->` and `<!-- /hardware -->` of a file.
A figure whose file is missing, because the run was cut off before it, is left out.
"""

import argparse
import json
import pathlib
import re
import sys

BEGIN, END = "<!-- hardware -->", "<!-- /hardware -->"
# Files of PyTorch's figures, and what they are called in the tables.
PYTORCH = {
    "models-eager": "eager",
    "models-channels-last": "channels_last",
    "models-compile": "compiled",
    "models-compile-channels-last": "compiled, channels_last",
}


class Results:
    """The files of a run."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def report(self, name):
        file = self.folder / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def text(self, name):
        file = self.folder / f"{name}.txt"
        return file.read_text() if file.exists() else ""

    def figures(self, name):
        """Figures by workload, what, size and batch."""
        report = self.report(name)
        results = report["results"] if report else []
        return {(r["workload"], r["what"], r["size"], r["batch"]): r for r in results}


def table(head, rows):
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def label(key):
    workload, what, size, batch = key
    return f"{workload} {what} {size}" + (f", batch {batch}" if batch else "")


def machine(results):
    lines = []
    try:
        devices = json.loads(results.text("devices"))["devices"]
        gpus = [d for d in devices if d["device"] != "cpu"]
        lines += [f"{d['name']} ({d['backend']}, {d['driver']})" for d in gpus]
    except ValueError:
        pass
    peaks = [results.report(name) for name in ("models", "w6-kernels", "w5-kernels")]
    peak = next((report["peak"] for report in peaks if report), None)
    if peak:
        lines.append(f"peak by probe {peak['flop_per_s'] / 1e12:.1f} TFLOP/s, {peak['bytes_per_s'] / 1e9:,.0f} GB/s")
    return "; ".join(lines) + ".\n" if lines else ""


def check(results):
    try:
        report = json.loads(results.text("check"))
    except ValueError:
        return ""
    shaders = report["kernels"]["shaders"]
    cases = sum(shader["cases"] for shader in shaders.values())
    verdict = "right" if report["right"] else f"wrong: {', '.join(report['wrong_shaders'])}"
    training = "; ".join(f"{t['network']}: losses within {t['worst_error']:.1e}" for t in report["training"])
    return (
        f"`gabor check`: {verdict}. {len(shaders)} shaders, {cases} results, in {report['seconds']:.0f} s."
        + (f" 20 steps of training: {training}." if training else "")
        + "\n"
    )


def against_pytorch(results):
    """gabor's figures beside PyTorch's, of which the best counts."""
    own, tuned = results.figures("models"), {**results.figures("models-tuned"), **results.figures("w4t-tuned")}
    for name in ("w4t-batches", "w5-kernels", "w6-kernels"):
        for key, figure in results.figures(name).items():
            # Where each kernel was measured, the first is the one that is chosen without tuning.
            own.setdefault((key[0], key[1].split(",")[0], *key[2:]), figure)
    best_kernel = {}
    for name in ("w5-kernels", "w6-kernels"):
        for key, figure in results.figures(name).items():
            plain = (key[0], key[1].split(",")[0], *key[2:])
            if plain not in best_kernel or figure["value"] > best_kernel[plain]["value"]:
                best_kernel[plain] = figure
    peers = {name: results.figures(file) for file, name in PYTORCH.items()}
    peers = {name: figures for name, figures in peers.items() if figures}
    keys = sorted({key for figures in peers.values() for key in figures} & (own.keys() | tuned.keys()))
    rows = []
    for key in keys:
        mine = [f[key]["value"] if key in f else None for f in (own, {**best_kernel, **tuned})]
        theirs = [figures[key]["value"] if key in figures else None for figures in peers.values()]
        best_mine, best_theirs = max(filter(None, mine)), max(filter(None, theirs))
        unit = (own.get(key) or tuned[key])["unit"]
        cells = [number(value) if value else "-" for value in mine + theirs]
        rows.append([label(key), *cells, unit, f"{best_mine / best_theirs:.2f}"])
    return table(["", "gabor", "gabor, tuned", *peers, "unit", "tuned / best"], rows)


def mixed(results):
    own, amp = results.figures("models"), results.figures("models-amp")
    own = {**own, **results.figures("w4t-batches")}
    keys = [key for key in amp if key in own]
    rows = [[label(k), number(own[k]["value"]), number(amp[k]["value"]), amp[k]["unit"]] for k in keys]
    return table(["", "gabor, f32", "PyTorch, AMP, channels_last", "unit"], rows)


def kernels(results, name):
    """Each kernel of each case, as the share of the probe's peak."""
    report = results.report(name)
    if not report:
        return ""
    peak = report["peak"]["flop_per_s"]
    rows = []
    for r in report["results"]:
        what, _, kernel = r["what"].partition(", ")
        share = f"{100 * r['gflop_per_s'] * 1e9 / peak:.0f}%"
        rows.append([f"{what} {r['size']}", kernel or "-", f"{r['gflop_per_s'] / 1000:.1f}", share])
    return table([report["results"][0]["workload"] if rows else "", "kernel", "TFLOP/s", "of peak"], rows)


def by_batch(results):
    own = {**results.figures("w1-batches"), **results.figures("w3-batches"), **results.figures("w4t-batches")}
    eager = results.figures("w3-batches-eager")
    rows = []
    for key, figure in own.items():
        peer = number(eager[key]["value"]) if key in eager else "-"
        rows.append([label(key), number(figure["value"]), peer, f"{100 * figure['floor_share']:.0f}%"])
    return table(["", "gabor, images/s", "PyTorch, channels_last", "of floor"], rows)


def profiles(results):
    """The operations of each profiled step that take longest."""
    parts = []
    for file in sorted(results.folder.glob("profile-*.txt")):
        text = file.read_text()
        found = re.search(r"^op +steps +time.*\n((?:\S.*\n)+)", text, re.MULTILINE)
        if not found:
            continue
        rows = [re.split(r" {2,}", line.strip()) for line in found.group(1).splitlines()[:8]]
        parts.append(f"{file.stem.removeprefix('profile-')}:\n\n")
        parts.append(table(["op", "steps", "time", "share", "GFLOP/s", "GB/s", "of floor"], rows) + "\n")
    return "".join(parts)


def document(results):
    sections = [
        ("", machine(results) + "\n" + check(results)),
        ("Against PyTorch, f32 without TF32", against_pytorch(results)),
        ("Against PyTorch's mixed precision", mixed(results)),
        ("By batch", by_batch(results)),
        ("Matrix products by kernel", kernels(results, "w5-kernels")),
        ("Convolution by kernel", kernels(results, "w6-kernels")),
        ("Where the time goes", profiles(results)),
    ]
    return "\n".join((f"### {title}\n\n" if title else "") + text for title, text in sections if text.strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", metavar="RESULTS", help="the folder that run.sh wrote")
    parser.add_argument("--into", metavar="FILE", help=f"a file with the lines {BEGIN} and {END}")
    args = parser.parse_args()
    if not pathlib.Path(args.results).is_dir():
        sys.exit(f"{args.results}: there is no such folder")
    text = document(Results(args.results))
    if not args.into:
        print(text)
        return
    file = pathlib.Path(args.into)
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{file}: there are no lines {BEGIN} and {END} to write the tables between")
    part = file.with_suffix(".part")
    part.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    part.replace(file)


if __name__ == "__main__":
    main()
