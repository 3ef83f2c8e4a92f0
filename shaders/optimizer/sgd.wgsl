// Stochastic gradient descent, with g = gradient + weight_decay * p:
// v = MOMENTUM_RATE * v + g; p = p - learning_rate * v, or with NESTEROV p - learning_rate * (g + MOMENTUM_RATE * v).
// Without MOMENTUM there is no v: p = p - learning_rate * g.
//
// bindings 0 to 4  see package::optimizer::step
// binding 5        velocity  [P] f32, updated in place (with MOMENTUM)
//
// COUNT: number of Elements of parameters.
import package::constants::{COUNT, MOMENTUM_RATE};
import package::lib::element::Element;
import package::lib::index::linear;
import package::optimizer::step::{gradient, happens, hyper, parameters};

@if(MOMENTUM) @group(0) @binding(5) var<storage, read_write> velocity: array<Element>;

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
    var direction = gradient(i) + hyper.weight_decay * p;
    @if(MOMENTUM) {
        let v = MOMENTUM_RATE * velocity[i] + direction;
        velocity[i] = v;
        @if(NESTEROV) { direction += MOMENTUM_RATE * v; }
        @if(!NESTEROV) { direction = v; }
    }
    parameters[i] = p - hyper.learning_rate * direction;
}
