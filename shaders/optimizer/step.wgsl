// What the steps of all optimizers share: the bindings below 5, the gradient as it is used, and the guard.
//
// binding 0  gradients   [P] f32
// binding 1  hyper       [8] f32: the members of Hyper in order, then two that are not used
// binding 2  scale       [] f32: one more factor of the gradients, computed on the device
// binding 3  guard       [] f32: the step happens where this is 0; else nothing changes
// binding 4  parameters  [P] f32, updated in place
//
// An invocation owns one Element (four in a row where VECTOR is on) of parameters and moments, a workgroup 256.
import package::lib::element::Element;

struct Hyper {
    learning_rate: f32,
    weight_decay: f32,
    bias_correction1: f32,
    bias_correction2: f32,
    gradient_scale: f32,
    clip_value: f32,
}

@group(0) @binding(0) var<storage, read> gradients: array<Element>;
@group(0) @binding(1) var<storage, read> hyper: Hyper;
@group(0) @binding(2) var<storage, read> scale: f32;
@group(0) @binding(3) var<storage, read> guard: f32;
@group(0) @binding(4) var<storage, read_write> parameters: array<Element>;

// Whether the step happens: guard is 0 by its bits, because compilers may assume that there are no NaNs.
fn happens() -> bool {
    return (bitcast<u32>(guard) & 0x7fffffffu) == 0u;
}

// Gradient i, scaled, then clipped by value.
fn gradient(i: u32) -> Element {
    let limit = Element(hyper.clip_value);
    return clamp(gradients[i] * (hyper.gradient_scale * scale), -limit, limit);
}
