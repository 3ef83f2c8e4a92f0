"""Makes the reference values that gabor's CPU kernels are tested against.

The values come from PyTorch, computed in f64 from inputs that are exact in f32, and rounded to
f32 once at the end: what a correct f32 kernel differs by is its own rounding. Every case draws
its random numbers from a seed of its own name, so adding one leaves the others as they were.

Run, from any folder, with the packages numpy, safetensors and torch (the CPU build is enough):

    python -m venv venv && venv/bin/pip install numpy safetensors torch
    venv/bin/python tests/pytorch/make_reference.py

It writes one safetensors file per family of ops beside itself. A tensor is called CASE/NAME, and
the file's metadata maps CASE to its parameters as JSON. In a case made by `record`, every
differentiable input NAME has a gradient dNAME, made from the gradient dy of the output y.
Tensors are in gabor's layouts: activations NHWC, convolution weights HWIO
([kh, kw, cin / groups, cout]), dense weights [in, out]. Padding is [top, bottom, left, right].
Everything is f32, except class labels, which are i64.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F


class Family:
    """The cases of one output file."""

    def __init__(self, name):
        self.name = name
        self.tensors = {}
        self.params = {}

    def rng(self, case):
        """A generator of random numbers of this case's own."""
        return np.random.default_rng(zlib.crc32(f"{self.name}/{case}".encode()))

    def add(self, case, params, **tensors):
        """Adds a case with the given parameters and tensors; numbers are rounded to f32."""
        assert case not in self.params, case
        self.params[case] = json.dumps(params)
        for name, value in tensors.items():
            value = value.detach().float() if value.is_floating_point() else value
            self.tensors[f"{case}/{name}"] = value.contiguous().clone()

    def record(self, case, params, forward, rng, **inputs):
        """Adds a case with y = forward(*inputs), a random dy, and the gradient of each input."""
        leaves = {name: exact(value).requires_grad_() for name, value in inputs.items()}
        y = forward(*leaves.values())
        dy = normal(rng, *y.shape)
        y.backward(dy)
        gradients = {f"d{name}": leaf.grad for name, leaf in leaves.items()}
        self.add(case, params, **leaves, y=y, dy=dy, **gradients)

    def save(self, folder):
        path = folder / f"{self.name}.safetensors"
        path.write_bytes(with_sorted_header(safetensors.torch.save(self.tensors, self.params)))
        print(f"{path.name}: {len(self.params)} cases, {path.stat().st_size / 1024:.0f} KiB")


def with_sorted_header(file):
    """The same safetensors file with its metadata in order: safetensors writes it in a random one."""
    size = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[size:]


def exact(value):
    """`value` as an f64 tensor whose elements are exact in f32."""
    return torch.as_tensor(value).detach().float().double()


def normal(rng, *shape, mean=0.0, std=1.0):
    return exact(rng.normal(mean, std, shape))


def distinct(rng, *shape):
    """Random values no two of which are within 1/100 of each other, so that a maximum is unique."""
    count = int(np.prod(shape))
    return exact((rng.permutation(count).reshape(shape) - count / 2) / 64)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def oihw(w):
    return w.permute(3, 2, 0, 1).contiguous()


def pad(x, padding, value=0.0):
    """Pads an NCHW tensor by [top, bottom, left, right]."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def conv2d():
    family = Family("conv2d")

    def case(name, x, w, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, bias=True):
        rng = family.rng(name)
        kh, kw, cin, cout = w
        assert cin * groups == x[3]

        def forward(x, w, b=None):
            x = pad(nchw(x), padding)
            return nhwc(F.conv2d(x, oihw(w), b, stride, 0, dilation, groups))

        inputs = {"x": normal(rng, *x), "w": normal(rng, *w, std=(kh * kw * cin) ** -0.5)}
        if bias:
            inputs["b"] = normal(rng, cout)
        params = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
        family.record(name, params, forward, rng, **inputs)

    # Images are [batch, height, width, channels], kernels [height, width, cin / groups, cout].
    case("pointwise", (2, 5, 4, 7), (1, 1, 7, 9))
    case("pointwise_stride_2", (2, 5, 6, 8), (1, 1, 8, 12), stride=(2, 2), bias=False)
    case("image_1x1", (3, 1, 1, 5), (3, 3, 5, 4), padding=(1, 1, 1, 1))
    case("kernel_covers_image", (2, 4, 3, 5), (4, 3, 5, 6))
    case("valid_3x3", (2, 6, 7, 3), (3, 3, 3, 5))
    case("same_3x3", (2, 5, 6, 7), (3, 3, 7, 6), padding=(1, 1, 1, 1))
    case("same_3x3_no_bias", (1, 6, 6, 16), (3, 3, 16, 16), padding=(1, 1, 1, 1), bias=False)
    case("same_3x3_past_tiles", (2, 9, 9, 20), (3, 3, 20, 36), padding=(1, 1, 1, 1))
    case("one_channel", (2, 7, 7, 1), (3, 3, 1, 32))
    case("one_output_channel", (2, 5, 5, 6), (3, 3, 6, 1), padding=(1, 1, 1, 1))
    case("wide_padding", (2, 4, 5, 3), (3, 3, 3, 4), padding=(2, 2, 3, 3))
    case("uneven_padding", (2, 5, 4, 3), (3, 3, 3, 4), padding=(2, 0, 0, 3))
    case("stride_3", (2, 10, 11, 4), (3, 3, 4, 5), stride=(3, 3))
    case("stride_past_kernel", (2, 9, 8, 3), (2, 2, 3, 4), stride=(3, 3))
    case("stride_2_same_even", (2, 8, 6, 4), (3, 3, 4, 6), stride=(2, 2), padding=(0, 1, 0, 1))
    case("stride_2_same_odd", (2, 7, 9, 4), (3, 3, 4, 6), stride=(2, 2), padding=(1, 1, 1, 1))
    case("stride_2x3_kernel_3x2", (2, 8, 10, 3), (3, 2, 3, 4), stride=(2, 3), padding=(1, 1, 0, 1))
    case("same_5x5", (2, 6, 5, 3), (5, 5, 3, 4), padding=(2, 2, 2, 2))
    case("stem_7x7", (1, 14, 13, 3), (7, 7, 3, 8), stride=(2, 2), padding=(3, 3, 3, 3), bias=False)
    case("even_kernel_same", (2, 5, 5, 3), (2, 2, 3, 4), padding=(0, 1, 0, 1))
    case("kernel_4x4_stride_2", (2, 8, 6, 3), (4, 4, 3, 4), stride=(2, 2), padding=(1, 1, 1, 1))
    case("kernel_1x3", (2, 5, 6, 4), (1, 3, 4, 4), padding=(0, 0, 1, 1))
    case("kernel_3x1", (2, 5, 6, 4), (3, 1, 4, 4), padding=(1, 1, 0, 0))
    case("dilation_2", (2, 7, 8, 3), (3, 3, 3, 4), padding=(2, 2, 2, 2), dilation=(2, 2))
    case("dilation_2x3_stride_2", (2, 9, 11, 3), (3, 3, 3, 4), (2, 2), (1, 2, 3, 0), (2, 3))
    case("groups_2", (2, 5, 6, 6), (3, 3, 3, 4), padding=(1, 1, 1, 1), groups=2)
    case("groups_3_stride_2", (2, 7, 6, 12), (3, 3, 4, 9), (2, 2), (1, 1, 1, 1), groups=3)
    case("groups_pointwise", (2, 4, 4, 8), (1, 1, 2, 12), groups=4)
    case("depthwise", (2, 6, 5, 7), (3, 3, 1, 7), padding=(1, 1, 1, 1), groups=7)
    case("depthwise_stride_2_5x5", (2, 9, 8, 12), (5, 5, 1, 12), (2, 2), (1, 2, 2, 2), groups=12)
    case("depthwise_multiplier_2", (2, 5, 5, 4), (3, 3, 1, 8), padding=(1, 1, 1, 1), groups=4)
    case("depthwise_dilation_2", (1, 8, 7, 8), (3, 3, 1, 8), (1, 1), (2, 2, 2, 2), (2, 2), groups=8)
    return family


def matmul():
    family = Family("matmul")

    def case(name, m, k, n, batch=(), transpose_a=False, transpose_b=False):
        rng = family.rng(name)

        def forward(a, b):
            return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)

        a = normal(rng, *batch, *((k, m) if transpose_a else (m, k)))
        b = normal(rng, *batch, *((n, k) if transpose_b else (k, n)))
        params = dict(transpose_a=transpose_a, transpose_b=transpose_b)
        family.record(name, params, forward, rng, a=a, b=b)

    for suffix, a, b in [("nn", False, False), ("tn", True, False), ("nt", False, True), ("tt", True, True)]:
        case(f"odd_{suffix}", 13, 7, 5, (), a, b)
        case(f"past_tiles_{suffix}", 33, 20, 36, (), a, b)
        case(f"batched_{suffix}", 5, 7, 6, (3,), a, b)
    case("single", 1, 1, 1)
    case("row", 1, 19, 10)
    case("column", 17, 9, 1)
    case("outer", 6, 1, 11)
    case("long_k", 3, 600, 4)
    case("batch_of_batches", 4, 3, 5, (2, 3))
    return family


def dense():
    family = Family("dense")
    for name, batch, inputs, outputs in [
        ("odd", 3, 7, 5),
        ("one_sample", 1, 20, 10),
        ("past_tiles", 33, 36, 17),
    ]:
        rng = family.rng(name)
        x, b = normal(rng, batch, inputs), normal(rng, outputs)
        w = normal(rng, inputs, outputs, std=inputs**-0.5)
        family.record(name, {}, lambda x, w, b: x @ w + b, rng, x=x, w=w, b=b)
    return family


def max_pool():
    family = Family("max_pool")

    def case(name, x, kernel, stride, padding=(0, 0, 0, 0), ceil=False):
        rng = family.rng(name)

        def forward(x):
            top, bottom, left, right = padding
            if (top, left) == (bottom, right):
                y = F.max_pool2d(nchw(x), kernel, stride, (top, left), ceil_mode=ceil)
            else:
                y = F.max_pool2d(pad(nchw(x), padding, -torch.inf), kernel, stride)
            return nhwc(y)

        params = dict(kernel=kernel, stride=stride, padding=padding, ceil=ceil)
        family.record(name, params, forward, rng, x=distinct(rng, *x))

    case("halve", (2, 6, 8, 4), (2, 2), (2, 2))
    case("halve_odd", (2, 7, 5, 7), (2, 2), (2, 2))
    case("halve_odd_ceil", (2, 7, 5, 7), (2, 2), (2, 2), ceil=True)
    case("image_1x1", (3, 1, 1, 5), (3, 3), (2, 2), (1, 1, 1, 1))
    case("overlapping", (2, 7, 6, 3), (3, 3), (1, 1))
    case("overlapping_stride_2", (2, 9, 8, 8), (3, 3), (2, 2), (1, 1, 1, 1))
    case("overlapping_ceil", (2, 8, 6, 4), (3, 3), (2, 2), ceil=True)
    case("padding_ceil", (2, 6, 8, 3), (3, 3), (2, 2), (1, 1, 1, 1), ceil=True)
    # The rounded-up last window would begin in the padding on the right: it is left out.
    case("ceil_drops_window_in_padding", (2, 5, 5, 3), (2, 2), (2, 2), (1, 1, 1, 1), ceil=True)
    case("uneven_padding", (2, 6, 6, 4), (3, 3), (2, 2), (0, 1, 0, 1))
    case("stride_past_kernel", (2, 8, 9, 3), (2, 2), (3, 3))
    case("kernel_3x2_stride_2x1", (2, 7, 5, 5), (3, 2), (2, 1), (1, 1, 0, 0))
    return family


def avg_pool():
    family = Family("avg_pool")

    def case(name, x, kernel, stride, padding=(0, 0, 0, 0), ceil=False, count_include_pad=False):
        rng = family.rng(name)

        def forward(x):
            top, bottom, left, right = padding
            x = nchw(x)
            if (top, left) == (bottom, right):
                y = F.avg_pool2d(x, kernel, stride, (top, left), ceil, count_include_pad)
            else:
                y = F.avg_pool2d(pad(x, padding), kernel, stride)
                if not count_include_pad:
                    y = y / F.avg_pool2d(pad(torch.ones_like(x), padding), kernel, stride)
            return nhwc(y)

        params = dict(
            kernel=kernel, stride=stride, padding=padding, ceil=ceil, count_include_pad=count_include_pad
        )
        family.record(name, params, forward, rng, x=normal(rng, *x))

    case("halve", (2, 6, 8, 4), (2, 2), (2, 2))
    case("halve_odd", (2, 7, 5, 7), (2, 2), (2, 2))
    case("halve_odd_ceil", (2, 7, 5, 7), (2, 2), (2, 2), ceil=True)
    case("image_1x1", (3, 1, 1, 5), (3, 3), (2, 2), (1, 1, 1, 1))
    case("overlapping", (2, 7, 6, 3), (3, 3), (1, 1))
    case("padding", (2, 9, 8, 8), (3, 3), (2, 2), (1, 1, 1, 1))
    case("padding_counted", (2, 9, 8, 8), (3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True)
    case("padding_ceil", (2, 6, 8, 3), (3, 3), (2, 2), (1, 1, 1, 1), ceil=True)
    case("uneven_padding", (2, 6, 6, 4), (3, 3), (2, 2), (0, 1, 0, 1))
    case("uneven_padding_counted", (2, 6, 6, 4), (3, 3), (2, 2), (0, 1, 0, 1), count_include_pad=True)
    case("stride_past_kernel", (2, 8, 9, 3), (2, 2), (3, 3))
    case("kernel_3x2_stride_2x1", (2, 7, 5, 5), (3, 2), (2, 1), (1, 1, 0, 0))
    return family


def global_pool():
    family = Family("global_pool")
    shapes = {"image_1x1": (3, 1, 1, 5), "odd": (2, 5, 3, 7), "wide": (1, 7, 7, 64)}
    for suffix, shape in shapes.items():
        for kind in ["avg", "max"]:
            rng = family.rng(f"{kind}_{suffix}")
            reduce = torch.mean if kind == "avg" else torch.amax
            x = distinct(rng, *shape)
            params = dict(kind=kind)
            family.record(f"{kind}_{suffix}", params, lambda x: reduce(x, dim=(1, 2)), rng, x=x)
    return family


def activations():
    family = Family("activations")
    extremes = [-100.0, -20.0, -5.0, -1e-3, 1e-3, 5.0, 20.0, 100.0]
    for name, params, function in [
        ("relu", {}, F.relu),
        ("leaky_relu_0.01", dict(slope=0.01), lambda x: F.leaky_relu(x, 0.01)),
        ("leaky_relu_0.2", dict(slope=0.2), lambda x: F.leaky_relu(x, 0.2)),
        ("sigmoid", {}, torch.sigmoid),
        ("tanh", {}, torch.tanh),
        ("silu", {}, F.silu),
        ("gelu", {}, F.gelu),
        ("gelu_tanh", {}, lambda x: F.gelu(x, approximate="tanh")),
        ("hard_sigmoid", {}, F.hardsigmoid),
        ("hard_swish", {}, F.hardswish),
    ]:
        rng = family.rng(name)
        x = np.concatenate([extremes, rng.normal(0, 2.5, 63)])
        family.record(name, params, function, rng, x=x)
    return family


def softmax():
    family = Family("softmax")
    for suffix, shape, mean, std in [
        ("rows", (5, 7), 0, 1),
        ("one_class", (4, 1), 0, 1),
        ("rank_4", (2, 3, 2, 10), 0, 3),
        ("many_classes", (2, 301), 0, 2),
        ("large_logits", (4, 9), 1000, 3),
    ]:
        for kind, function in [("softmax", F.softmax), ("log_softmax", F.log_softmax)]:
            case = f"{kind}_{suffix}"
            rng = family.rng(case)
            x = normal(rng, *shape, mean=mean, std=std)
            family.record(case, dict(kind=kind), lambda x: function(x, dim=-1), rng, x=x)
    return family


def attention():
    """qkv holds each token's queries, keys and values side by side, and in each of them the heads."""
    family = Family("attention")
    for name, batch, tokens, heads, head, std in [
        ("one_token", 2, 1, 2, 3, 1),
        ("odd_head", 2, 5, 3, 7, 1),
        ("image", 1, 50, 2, 16, 1),
        ("edges", 1, 65, 1, 24, 1),
        ("large_scores", 1, 9, 2, 8, 8),
    ]:
        rng = family.rng(name)

        def forward(qkv):
            parts = qkv.reshape(batch, tokens, 3, heads, head).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(*parts)
            return y.transpose(1, 2).reshape(batch, tokens, heads * head)

        qkv = normal(rng, batch, tokens, 3 * heads * head, std=std)
        family.record(name, dict(heads=heads), forward, rng, qkv=qkv)
    return family


def cross_entropy():
    """loss = sum(weight * losses) / sum(weight), where losses has an element a sample."""
    family = Family("cross_entropy")

    def case(name, batch, classes, soft=False, smoothing=0.0, weighted=False, std=2.0):
        rng = family.rng(name)
        logits = normal(rng, batch, classes, std=std).requires_grad_()
        if soft:
            labels = exact(rng.dirichlet(np.ones(classes), batch))
        else:
            labels = torch.as_tensor(rng.integers(0, classes, batch))
        weights = torch.ones(batch, dtype=torch.float64)
        if weighted:
            weights = exact(rng.uniform(0.25, 2.0, batch))
            weights[-1] = 0  # as for a sample that only fills up a batch
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        loss = (weights * losses).sum() / weights.sum()
        loss.backward()
        family.add(
            name,
            dict(soft=soft, label_smoothing=smoothing, weighted=weighted),
            logits=logits,
            labels=labels,
            weights=weights,
            losses=losses,
            loss=loss,
            dlogits=logits.grad,
        )

    for suffix, soft in [("labels", False), ("soft_labels", True)]:
        case(suffix, 5, 10, soft)
        case(f"{suffix}_smoothing", 5, 7, soft, smoothing=0.1)
        case(f"{suffix}_weighted", 6, 10, soft, weighted=True)
        case(f"{suffix}_smoothing_weighted", 6, 7, soft, smoothing=0.1, weighted=True)
    case("one_sample", 1, 3)
    case("two_classes", 4, 2)
    case("many_classes", 3, 301, smoothing=0.1)
    case("large_logits", 4, 10, std=200.0)
    return family


def batch_norm():
    """running = (1 - momentum) * running + momentum * batch, with the batch's unbiased variance."""
    family = Family("batch_norm")

    def case(name, shape, training, eps=1e-5, momentum=0.1, mean=0.5, std=2.0):
        rng = family.rng(name)
        channels = shape[-1]
        x = normal(rng, *shape, mean=mean, std=std).requires_grad_()
        gamma = normal(rng, channels, mean=1, std=0.3).requires_grad_()
        beta = normal(rng, channels).requires_grad_()
        running_mean = normal(rng, channels)
        running_var = exact(rng.uniform(0.5, 3.0, channels))
        before = dict(running_mean=running_mean.clone(), running_var=running_var.clone())

        rows = x.reshape(-1, channels)
        y = F.batch_norm(rows, running_mean, running_var, gamma, beta, training, momentum, eps)
        y = y.reshape(shape)
        dy = normal(rng, *shape)
        y.backward(dy)

        gradients = dict(dx=x.grad, dgamma=gamma.grad, dbeta=beta.grad)
        after = {}
        if training:
            after = dict(
                mean=rows.mean(0),
                var=rows.var(0, unbiased=False),
                new_running_mean=running_mean,
                new_running_var=running_var,
            )
        params = dict(training=training, eps=eps, momentum=momentum)
        family.add(
            name, params, x=x, gamma=gamma, beta=beta, **before, y=y, dy=dy, **gradients, **after
        )

    case("training", (3, 4, 5, 7), True)
    case("training_eps", (2, 5, 3, 6), True, eps=1e-3, momentum=0.01, std=0.05)
    case("training_image_1x1", (5, 1, 1, 4), True)
    case("training_three_values", (3, 1, 1, 3), True)
    case("training_rank_2", (6, 9), True)
    case("training_large_mean", (4, 3, 3, 4), True, mean=30.0, std=1.0)
    case("training_one_channel", (2, 9, 9, 1), True)
    case("inference", (2, 3, 4, 7), False)
    case("inference_eps", (2, 3, 2, 8), False, eps=1e-3)
    case("inference_one_value", (1, 1, 1, 5), False)
    return family


def layer_norm():
    family = Family("layer_norm")
    for name, shape, mean in [
        ("rows", (5, 7), 0.5),
        ("rank_4", (2, 3, 4, 12), -1.0),
        ("wide", (3, 259), 0.5),
        ("three_values", (4, 3), 0.0),
        ("large_mean", (4, 16), 30.0),
    ]:
        rng = family.rng(name)
        eps = 1e-6
        x = normal(rng, *shape, mean=mean)
        gamma, beta = normal(rng, shape[-1], mean=1, std=0.3), normal(rng, shape[-1])

        def forward(x, gamma, beta):
            return F.layer_norm(x, shape[-1:], gamma, beta, eps)

        family.record(name, dict(eps=eps), forward, rng, x=x, gamma=gamma, beta=beta)
    return family


def optimizers():
    """`initial` is the parameter before the first step; row i of `parameters` is it after step i + 1."""
    family = Family("optimizers")
    steps, size = 5, 37

    def case(name, kind, **params):
        rng = family.rng(name)
        initial = normal(rng, size)
        gradients = normal(rng, steps, size)
        parameter = initial.clone().requires_grad_()
        optimizer = getattr(torch.optim, kind)([parameter], **params)
        trajectory = []
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
            trajectory.append(parameter.detach().clone())
        params = dict(optimizer=kind.lower(), **params)
        family.add(
            name, params, initial=initial, gradients=gradients, parameters=torch.stack(trajectory)
        )

    case("sgd", "SGD", lr=0.1)
    case("sgd_momentum", "SGD", lr=0.1, momentum=0.9)
    case("sgd_nesterov", "SGD", lr=0.1, momentum=0.9, nesterov=True)
    case("sgd_weight_decay", "SGD", lr=0.1, weight_decay=0.01)
    case("sgd_nesterov_weight_decay", "SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    case("adam", "Adam", lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    case("adam_betas", "Adam", lr=0.05, betas=(0.8, 0.95), eps=1e-7)
    case("adam_weight_decay", "Adam", lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    case("adamw", "AdamW", lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    case("rmsprop", "RMSprop", lr=0.01, alpha=0.9, eps=1e-7)
    case("rmsprop_momentum", "RMSprop", lr=0.01, alpha=0.9, eps=1e-7, momentum=0.9)
    case("rmsprop_weight_decay", "RMSprop", lr=0.01, alpha=0.9, eps=1e-7, weight_decay=0.01)
    return family


def clipping():
    """Gradient tensors g0, g1, ... before clipping and c0, c1, ... after it."""
    family = Family("clipping")
    shapes = [(3, 3, 2, 5), (7,), (10, 4)]

    def case(name, limit, by_norm):
        rng = family.rng(name)
        gradients = [normal(rng, *shape) for shape in shapes]
        parameters = [torch.zeros_like(g).requires_grad_() for g in gradients]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()
        tensors = {f"g{i}": g for i, g in enumerate(gradients)}
        if by_norm:
            tensors["norm"] = torch.nn.utils.clip_grad_norm_(parameters, limit)
        else:
            torch.nn.utils.clip_grad_value_(parameters, limit)
        tensors |= {f"c{i}": p.grad for i, p in enumerate(parameters)}
        family.add(name, {"max_norm" if by_norm else "max_value": limit}, **tensors)

    case("norm", 1.0, True)
    case("norm_not_reached", 1000.0, True)
    case("value", 0.5, False)
    return family


def seed_cnn():
    """The loss and every gradient of the network that gabor calls seed-cnn, on small images."""
    family = Family("seed_cnn")
    rng = family.rng("step")
    batch, side, classes = 4, 16, 10
    flat = 2 * 2 * 64  # 16 -> conv 14 -> pool 7 -> conv 5 -> pool 2

    def glorot(*shape):
        receptive = int(np.prod(shape[:-2]))
        limit = (6 / (receptive * (shape[-2] + shape[-1]))) ** 0.5
        return rng.uniform(-limit, limit, shape)

    initial = dict(
        x=rng.uniform(0, 1, (batch, side, side, 1)),
        conv1_w=glorot(3, 3, 1, 32),
        conv1_b=rng.normal(0, 0.1, 32),
        conv2_w=glorot(3, 3, 32, 64),
        conv2_b=rng.normal(0, 0.1, 64),
        dense1_w=glorot(flat, 128),
        dense1_b=rng.normal(0, 0.1, 128),
        dense2_w=glorot(128, classes),
        dense2_b=rng.normal(0, 0.1, classes),
    )
    t = {name: exact(value).requires_grad_() for name, value in initial.items()}
    labels = torch.as_tensor(rng.integers(0, classes, batch))

    h = nchw(t["x"])
    for layer in ["conv1", "conv2"]:
        w, b = t[f"{layer}_w"], t[f"{layer}_b"]
        h = F.max_pool2d(F.relu(F.conv2d(h, oihw(w), b)), 2)
    h = nhwc(h).reshape(batch, flat)
    h = F.relu(h @ t["dense1_w"] + t["dense1_b"])
    logits = h @ t["dense2_w"] + t["dense2_b"]
    loss = F.cross_entropy(logits, labels)
    loss.backward()

    gradients = {f"d{name}": tensor.grad for name, tensor in t.items()}
    family.add("step", {}, **t, labels=labels, logits=logits, loss=loss, **gradients)
    return family


def sigmoid_cross_entropy():
    family = Family("sigmoid_cross_entropy")
    for name, weights in [("plain", [1.0] * 5), ("weighted", [1.0, 0.5, 3.0, 20.0, 1.0])]:
        rng = family.rng(name)
        x = np.concatenate([[[-100.0, -20.0, 0.0, 20.0, 100.0]] * 2, rng.normal(0, 2.5, (11, 5))])
        t = np.concatenate([[[0.0] * 5, [1.0] * 5], rng.uniform(0, 1, (11, 5)).round(1)])
        t, w = exact(t), exact(np.array(weights))

        def loss(x, t=t, w=w):
            return F.binary_cross_entropy_with_logits(x, t, pos_weight=w, reduction="none")

        family.record(name, {}, loss, rng, x=x)
        family.tensors[f"{name}/t"] = t.float()
        family.tensors[f"{name}/w"] = w.float()
    return family


def distillation():
    """y = T^2 * KL(teacher || student), for each sample: of the softmax of both divided by T, or of the
    logistic function of each class, and then the mean over the classes."""
    family = Family("distillation")
    for kind in ["softmax", "sigmoid"]:
        for temperature in [1.0, 4.0]:
            name = f"{kind}_{temperature:g}"
            rng = family.rng(name)
            teacher = exact(rng.normal(0, 3.0, (6, 10)))

            def loss(student, teacher=teacher, kind=kind, temperature=temperature):
                s, t = student / temperature, teacher / temperature
                if kind == "softmax":
                    log_s, log_t = F.log_softmax(s, -1), F.log_softmax(t, -1)
                    y = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(-1)
                else:
                    own, other = [torch.stack([F.logsigmoid(x), F.logsigmoid(-x)]) for x in (s, t)]
                    y = F.kl_div(own, other, reduction="none", log_target=True).sum(0).mean(-1)
                return temperature**2 * y

            student = rng.normal(0, 3.0, (6, 10))
            family.record(name, dict(kind=kind, temperature=temperature), loss, rng, student=student)
            family.tensors[f"{name}/teacher"] = teacher.float()
    return family


FAMILIES = [
    conv2d, matmul, dense, max_pool, avg_pool, global_pool, activations, softmax, attention,
    cross_entropy, batch_norm, layer_norm, optimizers, clipping, seed_cnn, sigmoid_cross_entropy,
    distillation,
]  # fmt: skip

if __name__ == "__main__":
    for make in FAMILIES:
        make().save(Path(__file__).parent)
