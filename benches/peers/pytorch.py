"""Times PyTorch on gabor's benchmark workloads: eager mode, f32, synthetic data already resident.

    python benches/peers/pytorch.py W1 W3 --threads 2 --json out.json

needs the package torch. With no workload named it runs them all.

    W1   lenet28: training step of seed-cnn on 28x28x1, batch 128, Adam
    W2   seed64: the same layers on 64x64x3, batch 32
    W3   resnet18c: training step of ResNet-18 with a 3x3 stem on 32x32x3, batch 32, SGD with momentum
    W4   resnet50i: inference of ResNet-50 v1.5 on 224x224x3, batches 1 and 8
    W4t  resnet50t: its training step, batch 4 on a CPU, 64 on a GPU, SGD with momentum
    W5   gemm: square matrix product of 512, 1024 and 2048
    W6   conv: 3x3, 64 to 64 channels, 56x56, batch 8: forward and both gradients

A figure is the median over repeats after a warm-up. "first step" is the time from the start of this
program to the end of the workload's first step, so it holds for the first workload named only. The JSON
has the fields of `gabor bench --json`.
"""

import argparse
import json
import math
import resource
import statistics
import time

START = time.perf_counter()

import torch  # noqa: E402  (the import belongs to the time to the first step)
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

DEVICE = torch.device("cpu")


def synchronise():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def measure(run, seconds):
    """The time of the first run, and the median time of a run over at least 5 samples and `seconds`.

    A sample is as many runs as take 10 ms, so that what it costs to start and to wait is not what is measured.
    """

    def sample(times):
        before = time.perf_counter()
        for _ in range(times):
            run()
        synchronise()
        return (time.perf_counter() - before) / times

    sample(1)
    first = time.perf_counter() - START
    shortest = math.inf
    warm_until = time.perf_counter() + seconds / 4
    while math.isinf(shortest) or time.perf_counter() < warm_until:
        shortest = min(shortest, sample(1))
    times = max(1, math.ceil(0.01 / shortest))
    samples = []
    until = time.perf_counter() + seconds
    while len(samples) < 5 or time.perf_counter() < until:
        samples.append(sample(times))
    return first, statistics.median(samples)


def images(workload, what, size, run, batch, seconds):
    first, median = measure(run, seconds)
    return [
        {
            "workload": workload,
            "what": what,
            "size": size,
            "batch": batch,
            "value": batch / median,
            "unit": "images/s",
            "seconds": median,
            "first_step_s": first,
        }
    ]


def gflops(workload, what, size, run, flop, seconds, batch=None):
    _, median = measure(run, seconds)
    return {
        "workload": workload,
        "what": what,
        "size": size,
        "batch": batch,
        "value": flop / median / 1e9,
        "unit": "GFLOP/s",
        "seconds": median,
    }


def training_step(model, optimizer, shape, classes):
    x = torch.rand(shape, device=DEVICE)
    labels = torch.randint(classes, shape[:1], device=DEVICE)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def seed_cnn(side, channels):
    flat = ((side - 2) // 2 - 2) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat * flat * 64, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    ).to(DEVICE)


def conv_norm(cin, cout, kernel, stride=1):
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)), with a projection where the shapes differ."""

    def __init__(self, cin, cout, stride, body):
        super().__init__()
        self.body = body
        same = cin == cout and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(cin, cout, 1, stride)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def basic(cin, width, stride):
    first, second = conv_norm(cin, width, 3, stride), conv_norm(width, width, 3)
    return Residual(cin, width, stride, nn.Sequential(first, nn.ReLU(), second)), width


def bottleneck(cin, width, stride):
    reduce, spatial = conv_norm(cin, width, 1), conv_norm(width, width, 3, stride)
    expand = conv_norm(width, 4 * width, 1)
    body = nn.Sequential(reduce, nn.ReLU(), spatial, nn.ReLU(), expand)
    return Residual(cin, 4 * width, stride, body), 4 * width


def resnet(block, depths, stem, classes):
    layers, cin = [stem, nn.ReLU()], 64
    if stem[0].stride == (2, 2):
        layers.append(nn.MaxPool2d(3, 2, 1))
    for stage, depth in enumerate(depths):
        for i in range(depth):
            layer, cin = block(cin, 64 << stage, 2 if stage > 0 and i == 0 else 1)
            layers.append(layer)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, classes)]
    return nn.Sequential(*layers).to(DEVICE)


def resnet50():
    return resnet(bottleneck, (3, 4, 6, 3), conv_norm(3, 64, 7, 2), 1000)


def w1(seconds):
    model = seed_cnn(28, 1)
    step = training_step(model, torch.optim.Adam(model.parameters(), 1e-3), (128, 1, 28, 28), 10)
    return images("W1", "train", 28, step, 128, seconds)


def w2(seconds):
    model = seed_cnn(64, 3)
    step = training_step(model, torch.optim.Adam(model.parameters(), 1e-3), (32, 3, 64, 64), 10)
    return images("W2", "train", 64, step, 32, seconds)


def w3(seconds):
    model = resnet(basic, (2, 2, 2, 2), conv_norm(3, 64, 3), 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    step = training_step(model, optimizer, (32, 3, 32, 32), 10)
    return images("W3", "train", 32, step, 32, seconds)


def w4(seconds):
    model = resnet50().eval()
    results = []
    for batch in (1, 8):
        x = torch.rand(batch, 3, 224, 224, device=DEVICE)

        @torch.inference_mode()
        def run():
            model(x)

        results += images("W4", "infer", 224, run, batch, seconds)
    return results


def w4t(seconds):
    model = resnet50()
    batch = 4 if DEVICE.type == "cpu" else 64
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    step = training_step(model, optimizer, (batch, 3, 224, 224), 1000)
    return images("W4t", "train", 224, step, batch, seconds)


def w5(seconds):
    results = []
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n, device=DEVICE), torch.randn(n, n, device=DEVICE)
        out = torch.empty_like(a)
        run = lambda: torch.mm(a, b, out=out)  # noqa: E731
        results.append(gflops("W5", "gemm", n, run, 2 * n**3, seconds))
    return results


def w6(seconds):
    batch, side, channels = 8, 56, 64
    x = torch.randn(batch, channels, side, side, device=DEVICE)
    w = torch.randn(channels, channels, 3, 3, device=DEVICE)
    dy = torch.randn_like(x)

    def gradient(of_input, of_weights):
        mask = (of_input, of_weights, False)
        args = (dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)
        return lambda: torch.ops.aten.convolution_backward(*args)

    runs = {
        "forward": lambda: F.conv2d(x, w, padding=1),
        "grad-input": gradient(True, False),
        "grad-weight": gradient(False, True),
    }
    flop = 2 * batch * side * side * channels * channels * 9
    return [gflops("W6", name, side, run, flop, seconds, batch) for name, run in runs.items()]


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W4t": w4t, "W5": w5, "W6": w6}


def main():
    global DEVICE
    parser = argparse.ArgumentParser(description="Times PyTorch on gabor's benchmark workloads.")
    parser.add_argument("workloads", nargs="*", metavar="W", help=", ".join(WORKLOADS))
    parser.add_argument("--threads", type=int, help="CPU threads (PyTorch's own choice otherwise)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=6, help="time spent on each figure")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    args = parser.parse_args()
    unknown = [name for name in args.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}: there are {', '.join(WORKLOADS)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    DEVICE = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)

    results = []
    for name in args.workloads or WORKLOADS:
        for figure in WORKLOADS[name](args.seconds):
            results.append(figure)
            batch = f" batch {figure['batch']}" if figure["batch"] else ""
            what = f"{figure['workload']} {figure['what']} {figure['size']}{batch}"
            first = f"  (first step after {figure['first_step_s']:.2f} s)" if "first_step_s" in figure else ""
            print(f"{what:<32}{figure['value']:>10,.1f} {figure['unit']}{first}", flush=True)
    report = {
        "program": f"PyTorch {torch.__version__}",
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "results": results,
    }
    print(f"{report['peak_rss_mib']:,.0f} MiB held at most")
    if DEVICE.type == "cuda":
        report["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
        print(f"{report['peak_gpu_mib']:,.0f} MiB of the GPU's memory allocated at most")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
