"""Times PyTorch on gabor's benchmark workloads: f32 unless said otherwise, synthetic data already resident.

    python benches/peers/pytorch.py W1 W3 --threads 2 --json out.json
    python benches/peers/pytorch.py W3 --device cuda --compile --channels-last

needs the package torch. With no workload named it runs W1 to W6. What a user can do to make it faster are flags:
--channels-last, --compile (torch.compile) and, where less precision will do, --amp (automatic mixed precision) and
--tf32 (matrix units that round their factors to 10 bits).

    W1   lenet28: training step of seed-cnn on 28x28x1, batch 128, Adam
    W2   seed64: the same layers on 64x64x3, batch 32
    W3   resnet18c: training step of ResNet-18 with a 3x3 stem on 32x32x3, batch 32, SGD with momentum
    W4   resnet50i: inference of ResNet-50 v1.5 on 224x224x3, batches 1 and 8
    W4t  resnet50t: its training step, batch 4 on a CPU, 64 on a GPU, SGD with momentum
    W5   gemm: square matrix product of 512, 1024 and 2048
    W6   conv: 3x3, 64 to 64 channels, 56x56, batch 8: forward and both gradients
    W7   training steps of six networks of torchvision and timm on 224x224x3, batch 8, SGD with momentum;
         needs these packages

--engine onnxruntime or openvino runs W4's network on a CPU by these packages (onnx as well), in f32.

A figure is the median over repeats after a warm-up. "first step" is the time from the start of this
program to the end of the workload's first step, so it holds for the first workload named only. The JSON
has the fields of `gabor bench --json`.
"""

import argparse
import json
import math
import resource
import statistics
import tempfile
import time

START = time.perf_counter()

import torch  # noqa: E402  (the import belongs to the time to the first step)
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

DEVICE = torch.device("cpu")
OPTIONS = argparse.Namespace(channels_last=False, compile=False, amp=False, batch_size=None, sizes=None)


def prepared(model):
    """The model as the flags say."""
    model = model.to(DEVICE)
    if OPTIONS.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return torch.compile(model) if OPTIONS.compile else model


def random_images(*shape):
    x = torch.rand(shape, device=DEVICE)
    return x.to(memory_format=torch.channels_last) if OPTIONS.channels_last else x


def precision():
    """Mixed precision, if it was asked for."""
    dtype = torch.float16 if DEVICE.type == "cuda" else torch.bfloat16
    return torch.autocast(DEVICE.type, dtype=dtype, enabled=OPTIONS.amp)


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
    x = random_images(*shape)
    labels = torch.randint(classes, shape[:1], device=DEVICE)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=OPTIONS.amp and DEVICE.type == "cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        with precision():
            loss = F.cross_entropy(model(x), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def batches(default):
    return OPTIONS.batch_size or default


def sizes(default):
    return OPTIONS.sizes or default


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
    )


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
    return nn.Sequential(*layers)


def resnet50():
    return resnet(bottleneck, (3, 4, 6, 3), conv_norm(3, 64, 7, 2), 1000)


def training(workload, build, optimizer, shape, classes, batches, seconds):
    """Training steps of what `build` makes on images of `shape`, for each batch."""
    results = []
    for batch in batches:
        model = prepared(build())
        step = training_step(model, optimizer(model.parameters()), (batch, *shape), classes)
        results += images(workload, "train", shape[-1], step, batch, seconds)
    return results


def adam(parameters):
    return torch.optim.Adam(parameters, 1e-3)


def momentum(parameters):
    return torch.optim.SGD(parameters, 0.01, momentum=0.9)


def w1(seconds):
    return training("W1", lambda: seed_cnn(28, 1), adam, (1, 28, 28), 10, batches([128]), seconds)


def w2(seconds):
    return training("W2", lambda: seed_cnn(64, 3), adam, (3, 64, 64), 10, batches([32]), seconds)


def w3(seconds):
    build = lambda: resnet(basic, (2, 2, 2, 2), conv_norm(3, 64, 3), 10)  # noqa: E731
    return training("W3", build, momentum, (3, 32, 32), 10, batches([32]), seconds)


def inference(model, x):
    """A function that runs the model on x, by the engine that was asked for, whose results are PyTorch's."""

    @torch.inference_mode()
    def eager():
        with precision():
            return model(x)

    if OPTIONS.engine == "pytorch":
        return eager
    image = x.numpy()
    if OPTIONS.engine == "onnxruntime":
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.onnx"
            torch.onnx.export(model, (x,), path, dynamo=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        run = lambda: session.run(None, {name: image})[0]  # noqa: E731
    else:
        import openvino

        # Without the hint it takes bf16 where the processor has it.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        settings["PERFORMANCE_HINT"] = "LATENCY"
        compiled = openvino.Core().compile_model(openvino.convert_model(model, example_input=x), "CPU", settings)
        request = compiled.create_infer_request()
        run = lambda: request.infer([image])[0]  # noqa: E731
    error = (torch.from_numpy(run()) - eager()).abs().max().item()
    if error > 1e-3 * eager().abs().max().item():
        raise SystemExit(f"{OPTIONS.engine} does not compute what PyTorch does: its logits are off by {error:.2e}")
    return run


def w4(seconds):
    model = prepared(resnet50().eval())
    results = []
    for batch in batches([1, 8]):
        x = random_images(batch, 3, 224, 224)

        results += images("W4", "infer", 224, inference(model, x), batch, seconds)
    return results


def w4t(seconds):
    default = [4 if DEVICE.type == "cpu" else 64]
    return training("W4t", resnet50, momentum, (3, 224, 224), 1000, batches(default), seconds)


def w5(seconds):
    dtype = torch.float16 if OPTIONS.amp else torch.float32
    results = []
    for n in sizes([512, 1024, 2048]):
        a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        run = lambda: torch.mm(a, b, out=out)  # noqa: E731
        results.append(gflops("W5", "gemm", n, run, 2 * n**3, seconds))
    return results


def w6(seconds):
    side, channels = 56, 64
    dtype = torch.float16 if OPTIONS.amp else torch.float32
    layout = torch.channels_last if OPTIONS.channels_last else torch.contiguous_format
    results = []
    for batch in batches([8]):
        random = lambda *shape: torch.randn(*shape, device=DEVICE, dtype=dtype).to(memory_format=layout)  # noqa: E731
        x, w = random(batch, channels, side, side), random(channels, channels, 3, 3)
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
        results += [gflops("W6", name, side, run, flop, seconds, batch) for name, run in runs.items()]
    return results


def w7(seconds):
    try:
        import timm
        import torchvision
    except ImportError as error:
        raise SystemExit(f"W7 needs the packages torchvision and timm: {error}") from error

    builds = {
        name: getattr(torchvision.models, name)
        for name in ("resnet50", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0", "convnext_tiny")
    }
    builds["vit_tiny"] = lambda: timm.create_model("vit_tiny_patch16_224")
    results = []
    for name, build in builds.items():
        results += [
            result | {"what": f"train {name}"}
            for result in training("W7", build, momentum, (3, 224, 224), 1000, batches([8]), seconds)
        ]
    for result in results[1:]:
        # It would count the networks before.
        del result["first_step_s"]
    return results


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W4t": w4t, "W5": w5, "W6": w6, "W7": w7}


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    global DEVICE, OPTIONS
    parser = argparse.ArgumentParser(description="Times PyTorch on gabor's benchmark workloads.")
    parser.add_argument("workloads", nargs="*", metavar="W", help=", ".join(WORKLOADS))
    parser.add_argument("--threads", type=int, help="CPU threads (PyTorch's own choice otherwise)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=6, help="time spent on each figure")
    parser.add_argument("--channels-last", action="store_true", help="images and weights in NHWC")
    parser.add_argument("--compile", action="store_true", help="models through torch.compile")
    engines = ["pytorch", "onnxruntime", "openvino"]
    parser.add_argument("--engine", default=engines[0], choices=engines, help="what runs W4's inference, on a CPU")
    parser.add_argument("--amp", action="store_true", help="mixed precision: f16 on CUDA, bf16 on a CPU")
    parser.add_argument("--tf32", action="store_true", help="products in TF32 on CUDA")
    parser.add_argument("--batch-size", type=numbers, metavar="N,..", help="in place of the workloads' own")
    parser.add_argument("--sizes", type=numbers, metavar="N,..", help="of W5, in place of its own")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    args = parser.parse_args()
    unknown = [name for name in args.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}: there are {', '.join(WORKLOADS)}")
    if args.engine != "pytorch" and (args.workloads != ["W4"] or args.device != "cpu"):
        parser.error(f"--engine {args.engine} is for W4 on the CPU")
    if args.threads:
        torch.set_num_threads(args.threads)
    DEVICE, OPTIONS = torch.device(args.device), args
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)

    results = []
    for name in args.workloads or [name for name in WORKLOADS if name != "W7"]:
        for figure in WORKLOADS[name](args.seconds):
            results.append(figure)
            batch = f" batch {figure['batch']}" if figure["batch"] else ""
            what = f"{figure['workload']} {figure['what']} {figure['size']}{batch}"
            first = f"  (first step after {figure['first_step_s']:.2f} s)" if "first_step_s" in figure else ""
            print(f"{what:<32}{figure['value']:>10,.1f} {figure['unit']}{first}", flush=True)
    report = {
        "program": f"PyTorch {torch.__version__}" if args.engine == "pytorch" else args.engine,
        "mode": [name for name in ("channels_last", "compile", "amp", "tf32") if getattr(args, name)],
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
