// RMSprop, with g = gradient + weight_decay * p:
// s = RHO * s + (1 - RHO) * g * g; d = g / (sqrt(s) + EPSILON); with MOMENTUM b = MOMENTUM_RATE * b + d and d = b;
// p = p - learning_rate * d.
//
// bindings 0 to 4  see package::optimizer::step
// binding 5        mean_square  [P] f32, s, updated in place
// binding 6        momentum     [P] f32, b, updated in place (with MOMENTUM)
//
// COUNT: number of Elements of parameters. COMPLEMENT: 1 - RHO, rounded once.
import package::constants::{COUNT, RHO, COMPLEMENT, EPSILON, MOMENTUM_RATE};
import package::lib::element::Element;
import package::lib::index::linear;
import package::optimizer::step::{gradient, happens, hyper, parameters};

@group(0) @binding(5) var<storage, read_write> mean_square: array<Element>;
@if(MOMENTUM) @group(0) @binding(6) var<storage, read_write> momentum: array<Element>;

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
    let p = parameters[i];
    let g = gradient(i) + hyper.weight_decay * p;
    let s = RHO * mean_square[i] + COMPLEMENT * g * g;
    mean_square[i] = s;
    var direction = g / (sqrt(s) + EPSILON);
    @if(MOMENTUM) {
        direction += MOMENTUM_RATE * momentum[i];
        momentum[i] = direction;
    }
    parameters[i] = p - hyper.learning_rate * direction;
}
