// The type of what one invocation computes at once: four neighbouring elements where VECTOR is on, else one. HeldElement is
// an Element as buffers hold it.
import package::lib::held::{Held, Held4};

@if(VECTOR) alias Element = vec4<f32>;
@if(VECTOR) alias HeldElement = Held4;
@if(VECTOR) alias Word = vec4<u32>;
@if(VECTOR) alias Mask = vec4<bool>;

@if(!VECTOR) alias Element = f32;
@if(!VECTOR) alias HeldElement = Held;
@if(!VECTOR) alias Word = u32;
@if(!VECTOR) alias Mask = bool;

// Whether a value is NaN, told by its bits: compilers may assume that a comparison with a NaN never happens.
fn is_nan(x: Element) -> Mask {
    return (bitcast<Word>(x) & Word(0x7fffffffu)) > Word(0x7f800000u);
}
