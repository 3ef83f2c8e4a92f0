// Adam, with g = gradient + weight_decay * p, or with DECOUPLED (AdamW) g = gradient and p = p * (1 - learning_rate *
// weight_decay) first:
// m = BETA1 * m + (1 - BETA1) * g; v = BETA2 * v + (1 - BETA2) * g * g;
// p = p - learning_rate / bias_correction1 * m / (sqrt(v / bias_correction2) + EPSILON).
//
// bindings 0 to 4  see package::optimizer::step
// binding 5        first_moment   [P] f32, m, updated in place
// binding 6        second_moment  [P] f32, v, updated in place
//
// COUNT: number of Elements of parameters. COMPLEMENT1, COMPLEMENT2: 1 - BETA1 and 1 - BETA2, rounded once.
import package::constants::{COUNT, BETA1, BETA2, COMPLEMENT1, COMPLEMENT2, EPSILON};
import package::lib::element::Element;
import package::lib::index::linear;
import package::optimizer::step::{gradient, happens, hyper, parameters};

@group(0) @binding(5) var<storage, read_write> first_moment: array<Element>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= COUNT || !happens() {
        return;
    }
    var p = parameters[i];
    var g = gradient(i);
    @if(DECOUPLED) { p *= 1.0 - hyper.learning_rate * hyper.weight_decay; }
    @if(!DECOUPLED) { g += hyper.weight_decay * p; }
    let m = BETA1 * first_moment[i] + COMPLEMENT1 * g;
    let v = BETA2 * second_moment[i] + COMPLEMENT2 * g * g;
    first_moment[i] = m;
    second_moment[i] = v;
    let rate = hyper.learning_rate / hyper.bias_correction1;
    parameters[i] = p - rate * m / (sqrt(v / hyper.bias_correction2) + EPSILON);
}
